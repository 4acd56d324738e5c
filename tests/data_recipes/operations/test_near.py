"""Near-duplicates are found through bands: against brute force, and in memory that does not grow with the rows."""

from __future__ import annotations

import random
import resource

import numpy as np
import pytest

from data_recipes.operations import image_hashes, text_hashes
from data_recipes.operations.dedup import DedupOptions, decide
from data_recipes.operations.image_hashes import SIDE, ImageHash
from data_recipes.operations.media_hashes import Hashed, Medium
from data_recipes.operations.near import CERTAIN_BITS, NearIndex
from data_recipes.operations.text_hashes import similarity, text_hash
from data_recipes.records import Context, Signature

NOTHING = text_hash("")
EMPTY = {"media": [], "text": text_hashes.pack(NOTHING)}


def made_hash(r: np.random.Generator, whole: int | None = None) -> ImageHash:
    hashes = r.integers(0, 1 << 64, 17, dtype=np.uint64)
    if whole is not None:
        hashes[0] = whole
    coarse = r.integers(0, 256, (SIDE // 8, SIDE // 8), dtype=np.uint8)
    return ImageHash(hashes, coarse.repeat(8, 0).repeat(8, 1))


def flipped(value: int, bits: int, r: random.Random) -> int:
    for bit in r.sample(range(64), bits):
        value ^= 1 << bit
    return value


def test_every_image_within_seven_bits_is_found_as_by_brute_force(tmp_path):
    """Of wholes near one of the query's windows, and of stored windows near the query's whole."""
    r, flips = np.random.default_rng(0), random.Random(0)
    queries = [made_hash(r) for _ in range(40)]
    stored = []
    for i in range(2000):
        window = int(queries[i % 40].hashes[i % 17])
        stored.append(made_hash(r, flipped(window, i // 40 % (CERTAIN_BITS + 2), flips) if i % 2 else None))
        if i % 5 == 0:
            stored[-1].hashes[3] = flipped(int(queries[i % 40].hashes[0]), i % 9, flips)
    index = NearIndex(tmp_path / "near.sqlite")
    for no, image in enumerate(stored):
        hashed = Hashed((Medium("image", (image,)),), NOTHING)
        index.add(no, EMPTY, hashed, media=None, windows=True, text=False)
    found_any = 0
    for query in queries:
        brute = set()
        for no, image in enumerate(stored):
            to_wholes = np.bitwise_count(query.hashes ^ image.hashes[0]).min()
            to_windows = np.bitwise_count(query.hashes[0] ^ image.hashes).min()
            if min(to_wholes, to_windows) <= CERTAIN_BITS:
                brute.add((no, 0))
        assert set(index.images_near(query, CERTAIN_BITS)) == brute
        found_any += len(brute)
    assert found_any > 500
    index.close()


def test_texts_above_the_threshold_share_a_band(tmp_path):
    """All pairs of edited questions with an estimated similarity of 0.8 or more are candidates."""
    r = random.Random(1)
    words = [f"word{i}" for i in range(300)]
    texts = []
    for _ in range(150):
        base = r.choices(words, k=40)
        texts += [" ".join(base), " ".join(base[: r.randint(33, 40)])]
    hashes = [text_hash(text) for text in texts]
    index = NearIndex(tmp_path / "near.sqlite")
    for no, text in enumerate(hashes):
        index.add(no, EMPTY, Hashed((), text), media=None, text=True)
    pairs = missed = 0
    for text in hashes:
        brute = {other for other, x in enumerate(hashes) if similarity(text, x) >= 0.8}
        pairs += len(brute) - 1
        missed += len(brute - set(index.texts_near(text)))
    assert pairs > 200 and missed == 0
    index.close()


def test_minhash_estimates_the_jaccard_similarity():
    r = random.Random(2)
    words = [f"word{i}" for i in range(200)]
    errors = []
    for _ in range(60):
        a = r.choices(words, k=60)
        b = a[: r.randint(10, 60)] + r.choices(words, k=10)
        tokens = [text_hashes.words(" ".join(t)) for t in (a, b)]
        shingles = [{tuple(t[i : i + 3]) for i in range(len(t) - 2)} for t in tokens]
        exact = len(shingles[0] & shingles[1]) / len(shingles[0] | shingles[1])
        errors.append(similarity(text_hash(" ".join(a)), text_hash(" ".join(b))) - exact)
    assert abs(np.mean(errors)) < 0.02 and np.std(errors) < 0.06


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Erik has $7,616.00!", ["erik", "has", "7616"]),
        ("ＴＷＯ  “quoted”\nwords", ["two", "quoted", "words"]),
        ("3.50 and 3.5", ["3.5", "and", "3.5"]),
        ("图里有3个圆", ["图", "里", "有", "3", "个", "圆"]),
    ],
)
def test_words_are_compared_without_typography(text, expected):
    assert text_hashes.words(text) == expected


def signatures(count: int):
    """Every fifth row is the one before it with three bits and nothing else changed."""
    texts = [text_hashes.pack(text_hash(f"question about thing {i} " * 3)) for i in range(50)]
    for i in range(count):
        image = made_hash(np.random.default_rng(i - 1 if i % 5 == 4 else i))
        if i % 5 == 4:
            image.hashes[0] ^= np.uint64(7 << 9)
        media = [{"kind": "image", "frames": [image_hashes.pack(image)]}]
        yield Signature(f"row-{i}", "task", "set", {"media": media, "text": texts[i % 50]})


def test_memory_stays_flat_and_all_duplicates_are_found(tmp_path):
    """From 200 to 2,000 rows the peak grows by less than a tenth of the process."""
    options = DedupOptions(mode="media")

    def peak_after(count: int) -> float:
        removed = [d.id for d in decide(lambda: signatures(count), options, Context(tmp_path / str(count)))]
        assert removed == [f"row-{i}" for i in range(4, count, 5)]
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    before = peak_after(200)
    assert peak_after(2000) < 1.1 * before
