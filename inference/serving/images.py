"""Images of a request: from data URLs, and from hosts that the config allows."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from urllib.parse import urlsplit

import httpx
from anyio import fail_after, to_thread
from PIL import Image

from core.media.images import image_size, load_image
from core.media.sources import MediaError
from core.text import short
from inference.serving.chat import BadRequest
from inference.serving.config import ServeConfig


async def load_images(urls: Sequence[str], config: ServeConfig) -> list[Image.Image]:
    """The decoded images. Raises BadRequest, naming the image's place, for one that is too large, does not decode, or comes from
    a host that is not allowed."""
    images = []
    for number, url in enumerate(urls):
        try:
            content = _decoded(url, config) if url[:5].lower() == "data:" else await _fetched(url, config)
            images.append(await to_thread.run_sync(_image, content, config.max_image_pixels))
        except (ValueError, MediaError) as error:
            raise BadRequest(f"image {number}: {error}", "messages") from None
    return images


def _decoded(url: str, config: ServeConfig) -> bytes:
    """Content of a base64 data URL."""
    head, comma, data = url.partition(",")
    if not comma or not head.lower().endswith(";base64") or not head[5:].lower().startswith("image/"):
        raise ValueError(f"expected data:image/…;base64,…, got {short(url[:60])}")
    most = int(config.max_image_mb * 1e6)
    if len(data) > most * 4 // 3 + 4:
        raise ValueError(f"expected at most {most} bytes, got about {len(data) * 3 // 4}")
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("expected base64 after the comma") from None


async def _fetched(url: str, config: ServeConfig) -> bytes:
    """Content at a URL of an allowed host."""
    try:
        parts = urlsplit(url)
        allowed = parts.netloc in config.image_hosts  # as written: user names and other ports are other hosts
    except ValueError:
        allowed = False
    if not allowed or parts.scheme not in ("http", "https"):
        hosts = ", ".join(config.image_hosts) or "none: send images as data URLs"
        raise ValueError(
            f"expected a data URL, or http(s) from an allowed host ({hosts}), got {short(url, 100)}"
        )
    most = int(config.max_image_mb * 1e6)
    try:
        with fail_after(config.fetch_timeout_s):
            async with (
                httpx.AsyncClient(follow_redirects=False, trust_env=False) as client,
                client.stream("GET", url) as response,
            ):
                if response.status_code != 200:
                    raise ValueError(f"{short(url, 100)} answered with status {response.status_code}")
                content = bytearray()
                async for part in response.aiter_bytes():
                    content += part
                    if len(content) > most:
                        raise ValueError(f"expected at most {most} bytes, got more from {short(url, 100)}")
    except TimeoutError:
        raise ValueError(f"{short(url, 100)} did not arrive within {config.fetch_timeout_s:g} s") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ValueError(f"{short(url, 100)}: {type(error).__name__}") from None
    return bytes(content)


def _image(content: bytes, max_pixels: int) -> Image.Image:
    width, height = image_size(content)
    if width * height > max_pixels:
        raise ValueError(f"expected at most {max_pixels} pixels, got {width}x{height}")
    return load_image(content)
