"""The example service: predictions, bad uploads, limits, batches, start and shutdown."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import sktransfer
from examples.service.app import create_app
from examples.service.batching import Batcher, BusyError
from sktransfer import FineTuneClassifier, FineTuneTagger, ImageFeaturizer, TextFeaturizer, load, save

ROOT = Path(__file__).parents[1]
TEXTS = ["a moving, funny film", "two hours of nothing", "I loved every minute", "dull from start to end"]
IMAGES = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)


def encoded(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


PNGS = [encoded(image) for image in IMAGES]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("service")
    moods = make_pipeline(TextFeaturizer("tiny/bert", layer=1), LogisticRegression())
    photos = make_pipeline(ImageFeaturizer("tiny/cnn", layer=1), LogisticRegression())
    save(moods.fit(TEXTS, ["up", "down", "up", "down"]), folder / "moods.skt")
    save(photos.fit(PNGS, [0, 1, 0, 1]), folder / "photos.skt")
    return {"text": folder / "moods.skt", "image": folder / "photos.skt"}


def served(app, talk):
    """Run the application without a server, and return what `talk(client)` returns."""

    async def run():
        transport = httpx2.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx2.AsyncClient(transport=transport, base_url="http://x") as one,
        ):
            return await talk(one)

    return asyncio.run(run())


def uploads(*contents):
    return [("files", (f"{row}.png", content)) for row, content in enumerate(contents)]


def test_service_predicts_as_the_estimator(files):
    async def talk(client):
        return await asyncio.gather(
            client.post("/text", json={"texts": TEXTS}), client.post("/image", files=uploads(*PNGS))
        )

    texts, images = served(create_app(**files), talk)
    for response, name, samples in ((texts, "text", TEXTS), (images, "image", PNGS)):
        assert response.status_code == 200, response.text
        found, clf = response.json()["predictions"], load(files[name])
        assert [one["prediction"] for one in found] == clf.predict(samples).tolist()
        assert [list(one["probabilities"].values()) for one in found] == clf.predict_proba(samples).tolist()


def test_service_predicts_several_labels_without_probabilities(tmp_path):
    labels = np.array([[0, 1], [1, 1], [0, 0], [1, 0]])
    clf = FineTuneClassifier("tiny/bert", layer=1, freeze_depth="all", max_epochs=0).fit(TEXTS, labels)
    save(clf, tmp_path / "labels.skt")

    async def talk(client):
        return await client.post("/text", json={"texts": TEXTS})

    response = served(create_app(text=tmp_path / "labels.skt"), talk)
    assert response.json() == {"predictions": [{"prediction": row} for row in clf.predict(TEXTS).tolist()]}


def test_service_predicts_a_tag_for_each_word(tmp_path):
    sentences = [["Anna", "lives", "in", "Rome"], ["he", "calls", "Peter"]]
    tags = [["B-PER", "O", "O", "B-LOC"], ["O", "O", "B-PER"]]
    tagger = FineTuneTagger("tiny/bert", freeze_depth="all", max_epochs=0, random_state=0).fit(sentences, tags)
    save(tagger, tmp_path / "names.skt")

    async def talk(client):
        return [await client.post("/text", json={"texts": texts}) for texts in (sentences, [["Anna"], "Anna"])]

    predicted, refused = served(create_app(text=tmp_path / "names.skt"), talk)
    assert predicted.json()["predictions"] == [{"prediction": tags} for tags in tagger.predict(sentences)]
    assert refused.status_code == 400
    assert refused.json()["row"] == 1


def test_service_refuses_estimators_that_do_not_predict_and_names_the_file(tmp_path, files):
    save(TextFeaturizer("tiny/bert", layer=1).fit(TEXTS), tmp_path / "features.skt")
    save(make_pipeline(TextFeaturizer("tiny/bert"), LogisticRegression()), tmp_path / "unfitted.skt")

    async def talk(client):
        return await client.get("/ready")

    for arguments, message in (
        (
            {"text": tmp_path / "features.skt"},
            "features.skt.*TextFeaturizer is neither a classifier, a regressor nor a tagger",
        ),
        ({"text": tmp_path / "unfitted.skt"}, "unfitted.skt does not predict texts.*not fitted"),
        ({"text": files["image"]}, f"{files['image'].name} does not predict texts.*images are expected"),
    ):
        with pytest.raises(ValueError, match=message):
            served(create_app(**arguments), talk)


def test_service_keeps_nothing_in_the_cache(files):
    sktransfer.clear_cache()

    async def talk(client):
        return await client.post("/text", json={"texts": TEXTS})

    assert served(create_app(text=files["text"]), talk).status_code == 200
    assert sktransfer.cache_info().n_entries == 0


def test_service_answers_400_with_row_and_reason_and_other_requests_succeed(files):
    async def talk(client):
        posts = [client.post("/image", files=uploads(one)) for one in PNGS]
        posts += [client.post("/image", files=uploads(PNGS[0], b"no image", PNGS[1]))]
        posts += [client.post("/text", json={"texts": ["fine", None]})]
        return await asyncio.gather(*posts)

    *good, image, text = served(create_app(**files), talk)
    assert [one.status_code for one in good] == [200] * len(PNGS)
    with pytest.raises(sktransfer.exceptions.InvalidSampleError) as raised:
        load(files["image"]).predict([PNGS[0], b"no image", PNGS[1]])
    assert image.status_code == 400
    assert image.json() == {"detail": str(raised.value), "row": 1, "reason": raised.value.message}
    assert text.status_code == 400
    assert text.json()["detail"].startswith("row 1: the text is missing (None)")


@pytest.mark.parametrize("texts", ["NaN", '"\\ud800"', f'"{"a" * 10_000}"'], ids=["nan", "surrogate", "long"])
def test_service_answers_422_to_other_bodies_without_repeating_them(files, texts):
    async def talk(client):
        return await client.post("/text", content=f'{{"texts": {texts}}}', headers={"content-type": "application/json"})

    response = served(create_app(text=files["text"]), talk)
    assert response.status_code == 422, response.text
    (error,) = response.json()["detail"]
    assert error == {"type": "list_type", "loc": ["body", "texts"], "msg": "Input should be a valid list"}


@pytest.mark.parametrize("is_chunked", [False, True])
def test_service_refuses_bodies_above_max_bytes(files, is_chunked):
    async def chunks():
        for _ in range(20):
            yield b"x" * 100

    async def talk(client):
        content = chunks() if is_chunked else b"x" * 2000
        refused = await client.post("/text", content=content, headers={"content-type": "application/json"})
        return refused, await client.post("/text", json={"texts": TEXTS[:1]})

    refused, accepted = served(create_app(text=files["text"], max_bytes=1000), talk)
    assert (refused.status_code, accepted.status_code) == (413, 200)
    assert refused.json() == {"detail": "the request is larger than 1000 bytes"}


def test_service_refuses_more_than_max_samples_and_is_ready(files):
    async def talk(client):
        paths = ("/health", "/ready")
        answers = [await client.post("/text", json={"texts": texts}) for texts in (TEXTS, [])]
        return answers, [await client.get(path) for path in paths]

    answers, states = served(create_app(text=files["text"], max_samples=3), talk)
    assert [(one.status_code, one.json()["detail"]) for one in answers] == [
        (400, "4 samples; a request has from 1 to 3"),
        (400, "0 samples; a request has from 1 to 3"),
    ]
    assert [one.status_code for one in states] == [200, 200]


def test_batcher_predicts_requests_that_wait_together_up_to_max_batch():
    async def run():
        batcher = Batcher(lambda samples: [2 * one for one in samples], max_batch=3)
        results = await asyncio.gather(*(batcher.predict([n, -n]) for n in range(5)))
        await batcher.close()
        return results, batcher.batches

    results, batches = asyncio.run(run())
    assert results == [[2 * n, -2 * n] for n in range(5)]
    assert sum(batches) == 5
    assert max(batches) == 2  # a request joins while there are fewer than 3 samples


def test_batcher_raises_busy_error_above_max_waiting_and_close_finishes_the_others():
    async def run():
        batcher = Batcher(lambda samples: samples, max_waiting=4)
        waiting = [asyncio.ensure_future(batcher.predict([n, n])) for n in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(BusyError, match="4 samples wait"):
            await waiting[2]
        await batcher.close()
        return await asyncio.gather(*waiting[:2]), batcher.n_waiting

    assert asyncio.run(run()) == ([[0, 0], [1, 1]], 0)


def test_batcher_drops_requests_that_are_cancelled():
    async def run():
        seen = []
        batcher = Batcher(lambda samples: seen.extend(samples) or samples)
        gone, stays = (asyncio.ensure_future(batcher.predict([n])) for n in range(2))
        await asyncio.sleep(0)
        gone.cancel()
        assert await stays == [1]
        await batcher.close()
        return seen

    assert asyncio.run(run()) == [1]


@pytest.mark.process
def test_service_starts_answers_and_ends_by_sigterm(files):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "examples.service", "--text", str(files["text"]), "--port", str(port)]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    service = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=300) as client:
            is_ready = False
            while not is_ready:
                assert service.poll() is None, service.communicate()[1]
                with contextlib.suppress(httpx2.ConnectError):
                    is_ready = client.get("/ready").status_code == 200
                time.sleep(0.05)
            response = client.post("/text", json={"texts": TEXTS})
            found = [one["prediction"] for one in response.json()["predictions"]]
            assert found == load(files["text"]).predict(TEXTS).tolist()
        service.send_signal(signal.SIGTERM)
        assert service.wait(300) in (0, -signal.SIGTERM), service.communicate()[1]
    finally:
        service.kill()
        service.communicate()
