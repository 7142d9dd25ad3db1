"""Web service for estimators in files of `sktransfer.save`.

    python -m examples.service --text moods.skt --image digits.skt --port 8000

FastAPI reads requests and uvicorn serves them. `Batcher` predicts concurrent requests together.
"""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import Body, FastAPI, HTTPException, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from PIL import Image
from sklearn.base import is_classifier, is_regressor

from examples.service.batching import Batcher, BusyError
from sktransfer import FineTuneTagger, load
from sktransfer.exceptions import InvalidSampleError

__all__ = ["create_app"]

_NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
# Samples of the first prediction, which prepares the network.
_FIRST: dict[str, list[Any]] = {"text": ["one text"], "words": [["one", "text"]], "image": [_NOISE]}


def predictor(estimator: Any, first: list[Any]) -> Callable[[list[Any]], list[dict[str, Any]]]:
    """Return a function from samples to one JSON object per sample: the prediction, and the probability of each class.

    There are no probabilities if the estimator has none, or if it predicts several labels or numbers per sample.

    Parameters
    ----------
    estimator : estimator
        Fitted classifier or regressor of images or texts, or `FineTuneTagger`, whose samples are lists of words.
    first : list of one sample
        Sample to predict once, which tells whether there are several labels or numbers.

    Raises
    ------
    TypeError
        If the estimator is neither a classifier, a regressor nor a tagger.
    """
    if isinstance(estimator, FineTuneTagger):
        return lambda samples: [{"prediction": tags} for tags in estimator.predict(samples)]
    if not (is_classifier(estimator) or is_regressor(estimator)):
        raise TypeError(
            f"{type(estimator).__name__} is neither a classifier, a regressor nor a tagger, which this service serves"
        )
    has_probabilities = np.ndim(estimator.predict(first)) == 1 and hasattr(estimator, "predict_proba")

    def predict(samples: list[Any]) -> list[dict[str, Any]]:
        if not has_probabilities:
            return [{"prediction": one} for one in np.asarray(estimator.predict(samples)).tolist()]
        classes = estimator.classes_.tolist()
        probabilities: list[list[float]] = estimator.predict_proba(samples).tolist()
        return [
            {"prediction": classes[int(np.argmax(row))], "probabilities": dict(zip(map(str, classes), row))}
            for row in probabilities
        ]

    return predict


class BodyLimit:
    """Middleware that answers 413 to requests whose body is too large, without reading the rest of it.

    Parameters
    ----------
    app : callable
        ASGI application.
    max_bytes : int
        Largest size of a body.
    """

    def __init__(self, app: Any, max_bytes: int) -> None:
        self.app, self.max_bytes = app, max_bytes
        self.error = HTTPException(413, f"the request is larger than {max_bytes} bytes")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        lengths = [value for name, value in scope.get("headers", ()) if name == b"content-length"]
        if any(not value.isdigit() or int(value) > self.max_bytes for value in lengths):
            response = JSONResponse({"detail": self.error.detail}, self.error.status_code, {"connection": "close"})
            await response(scope, receive, send)
            return
        n_bytes = 0

        async def counted() -> Any:
            nonlocal n_bytes
            message = await receive()
            n_bytes += len(message.get("body", b""))
            if n_bytes > self.max_bytes:  # of a body without a declared length
                raise self.error
            return message

        await self.app(scope, counted, send)


async def load_batchers(batchers: dict[str, Batcher], files: dict[str, str | Path | None], **options: int) -> None:
    """Load estimators, predict one sample with each, which prepares the network, and add a `Batcher` for each.

    Parameters
    ----------
    batchers : dict of str to Batcher
        Receives the batchers by modality.
    files : dict of str to str, Path or None
        Files of `sktransfer.save` by modality.
    **options
        Parameters of `Batcher`.

    Raises
    ------
    ValueError
        If an estimator cannot predict a sample of its modality. The message names the file.
    """
    for modality, path in files.items():
        if path is not None:
            estimator = load(path, cache=None)  # a cache would grow with every sample
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                first = _FIRST["words" if isinstance(estimator, FineTuneTagger) else modality]
                try:
                    batchers[modality] = Batcher(predictor(estimator, first), **options)
                    await batchers[modality].predict(first)
                except Exception as error:  # an estimator that is not fitted, or of the other modality
                    raise ValueError(f"{path} does not predict {modality}s: {error}") from error


def add_errors(app: FastAPI) -> None:
    """Answer errors about requests, samples and a full queue with their messages."""

    @app.exception_handler(RequestValidationError)
    async def invalid_request(request: Request, error: RequestValidationError) -> JSONResponse:
        shown = ("type", "loc", "msg")  # without the given value, which may be large, or such that JSON cannot hold it
        return JSONResponse({"detail": [{name: one[name] for name in shown} for one in error.errors()]}, 422)

    @app.exception_handler(InvalidSampleError)
    async def invalid_sample(request: Request, error: InvalidSampleError) -> JSONResponse:
        return JSONResponse({"detail": str(error), "row": error.row, "reason": error.message}, 400)

    @app.exception_handler(BusyError)
    async def busy(request: Request, error: BusyError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 503, {"retry-after": "1"})


def add_states(app: FastAPI, batchers: dict[str, Batcher]) -> None:
    """Add the endpoints that tell whether the process answers, and whether it takes more requests."""

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/ready")
    async def ready() -> dict[str, str]:
        if any(batcher.is_busy for batcher in batchers.values()):
            raise HTTPException(503, "too many samples wait")
        return {"status": "ready"}


def create_app(
    *,
    text: str | Path | None = None,
    image: str | Path | None = None,
    max_bytes: int = 10_000_000,
    max_samples: int = 32,
    max_batch: int = 32,
    max_waiting: int = 256,
) -> FastAPI:
    """Return the application.

    Parameters
    ----------
    text, image : str or Path, default=None
        Files of `sktransfer.save` with an estimator of texts or a tagger, and of images. None for no such endpoint.
    max_bytes : int, default=10_000_000
        Largest size of the body of a request.
    max_samples : int, default=32
        Largest number of samples of a request.
    max_batch, max_waiting : int
        Parameters of `Batcher`.
    """
    batchers: dict[str, Batcher] = {}

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        """Load the estimators before the server accepts connections, and finish requests before it ends."""
        await load_batchers(batchers, {"text": text, "image": image}, max_batch=max_batch, max_waiting=max_waiting)
        yield
        for batcher in batchers.values():
            await batcher.close()

    async def answer(modality: str, samples: Sequence[Any]) -> dict[str, Any]:
        if not 0 < len(samples) <= max_samples:
            raise HTTPException(400, f"{len(samples)} samples; a request has from 1 to {max_samples}")
        return {"predictions": await batchers[modality].predict(samples)}

    app = FastAPI(title="sktransfer", lifespan=lifespan)
    app.add_middleware(BodyLimit, max_bytes=max_bytes)
    add_errors(app)
    add_states(app, batchers)

    if text is not None:

        @app.post("/text")
        async def predict_texts(texts: Annotated[list[Any], Body(embed=True)]) -> dict[str, Any]:
            """Predict texts, or lists of words for a tagger, {"texts": [...]}. The estimator checks them."""
            return await answer("text", texts)

    if image is not None:

        @app.post("/image")
        async def predict_images(files: list[UploadFile]) -> dict[str, Any]:
            """Predict uploaded image files."""
            return await answer("image", [await file.read() for file in files])

    return app
