"""The one place where images and videos are opened: `images` and `videos`, as viewers and players show them.

A medium that cannot be shown is refused with a MediaError that names it.
"""
