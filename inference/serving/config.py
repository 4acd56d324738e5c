"""Settings of `python -m inference serve`."""

from __future__ import annotations

from pydantic import Field

from inference.config import AnswerConfig
from rewards.serving.service_config import HTTPConfig


class ServeConfig(HTTPConfig, AnswerConfig):  # fields come in the order of the bases from the last one on
    """An OpenAI-compatible endpoint in front of one engine. Overload is answered with status 429."""

    port: int = Field(default=8700, ge=0, le=65535)
    """Port to listen on; 0 takes a free one."""
    name: str | None = None
    """The model's name for clients; null: the last part of `model.path`."""
    max_images: int = Field(8, ge=0)
    """Most images in one request."""
    max_image_mb: float = Field(20.0, gt=0)
    """Largest image file, in 10^6 bytes."""
    max_image_pixels: int = Field(50_000_000, ge=1)
    """Largest image, in pixels; it is refused before it is decoded."""
    image_hosts: list[str] = []
    """Hosts from which images are fetched, as in the URL (`images.example.com`, `10.0.0.7:8080`). None by default: images come as
    data URLs. Redirects are not followed."""
    fetch_timeout_s: float = Field(10.0, gt=0)
    """Time limit in seconds for fetching one image."""
    max_candidates: int = Field(32, ge=1)
    """Most candidates that a request may ask for."""
    slice_tokens: int = Field(32, ge=1)
    """Tokens that all searches generate before new ones join, and those that nobody waits for any longer are dropped. Smaller: a
    new request waits less; larger: less overhead."""
