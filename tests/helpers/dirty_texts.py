"""Odd texts from exports, scrapers and broken encodings."""

from __future__ import annotations

CONTROL = "".join(map(chr, [*range(1, 32), *range(127, 160)]))
# name -> text; every text has features
ODD = {
    "empty": "",
    "blank": " \t\n\u00a0\u2003\u3000",
    "control characters": CONTROL,
    "control characters between words": "a\x01 good\x02 film\x7f",
    "null": "\0",
    "null in a word": "go\0od film",
    "half a character": "\ud83d",
    "halves among words": "good \udcff film \ud83d",
    "halves that make a whole": "good \ud83d\ude00",
    "emoji": "👍🏽 ❤️ 👩‍👩‍👧‍👦 🇩🇪",
    "joiners alone": "\u200d\u200c\u200b\ufeff",
    "right to left": "שלום עולم مرحبا بالعالم \u202eabc\u202c",
    "marks on marks": "e" + "\u0301" * 500,
    "not composed": "Cafe\u0301 ﬁlm \uff46\uff55\uff4c\uff4c Ⅷ",
    "Thai and Chinese without blanks": "ภาพยนตร์ดีมาก 这部电影很好看",
    "beyond the first plane": "\U0001d524\U0001d52c\U0001d52c\U0001d521 𒀀𒀁 🜁",
    "private and unassigned": "\ue000\U000f0000\U0010fffd\ufffe\uffff",
    "replaced": "\ufffd\ufffd good",
    "newlines of all kinds": "a\nb\r\nc\rd\x0be\x0cf\x85g\u2028h\u2029i",
    "one word of 10000 letters": "a" * 10_000,
    "names of special tokens": "[CLS] [SEP] [PAD] [MASK] [UNK] </s> <s> <|endoftext|>",
    "HTML": "<p>good&nbsp;film</p><script>alert('&#x0;')</script>",
    "CSV that was not split": '"good","film"\n"a";"b"\n',
}
