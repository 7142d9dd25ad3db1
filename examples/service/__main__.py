"""Command line of the service."""

from __future__ import annotations

import argparse

import uvicorn

from examples.service.app import create_app


def main() -> None:
    """Serve until SIGTERM or Ctrl-C, and answer the requests that have arrived before."""
    parser = argparse.ArgumentParser(prog="python -m examples.service", description=__doc__)
    parser.add_argument("--text", help="file of sktransfer.save with an estimator of texts")
    parser.add_argument("--image", help="file of sktransfer.save with an estimator of images")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--max-bytes", type=int, default=10_000_000, help="largest body of a request")
    args = parser.parse_args()
    if not (args.text or args.image):
        parser.error("give --text, --image or both")
    app = create_app(text=args.text, image=args.image, max_bytes=args.max_bytes)
    uvicorn.run(app, host=args.host, port=args.port, timeout_graceful_shutdown=30, log_level="warning")


if __name__ == "__main__":
    main()
