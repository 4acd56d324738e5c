"""Recall and precision of near-duplicate detection for images and texts, by kind of copy and of look-alike.

    python -m benchmarks.data_dedup [--made 240] [--data FOLDER] [--sweep]

Base images are generated (benchmarks/dedup_set.py) and, if FOLDER (default ../shared/data beside the repository, or
$ONSIGHT_SHARED/data) has them, real: photographs, blood cells, mathematics figures and TabMWP tables. Each base has 14 copies,
and each generated one also a look-alike; all images of one half form one set for `dedup` in mode `media`, with candidates
from its own index. Recall of a kind: the share of these copies that end up in the group of their base. Precision: the share
of all pairs in one group that are copies of the same base. Bases with even numbers were used to choose thresholds (--sweep
prints the trade-off); results are reported for the odd ones, with ImageHash's phash alone for comparison.

Texts are questions of TabMWP and GSM8K: edits of a question should be found, but not other questions of the same template.
The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imagehash
import numpy as np
from PIL import Image

from benchmarks.dedup_set import bases, copies
from data_recipes.operations import dedup, image_hashes, text_hashes
from data_recipes.operations.image_hashes import ImageHash, image_hash
from data_recipes.operations.image_likeness import likeness
from data_recipes.operations.media_hashes import texts_alike
from data_recipes.records import Context, Signature

# without screenshots, since those of one session are often the same
REAL = ("raccoon", "bccd", "mathv", "tabmwp", "cookbook_traces")
SWEEP = tuple(
    (c, w, d) for c in (0.93, 0.95, 0.97) for w in (0.7, 0.8, 0.85) for d in (-1, 0.55, 0.6, 0.65, 0.7, 0.75)
)


def real_images(data: Path) -> Iterator[tuple[str, Image.Image]]:
    for folder in REAL:
        for path in sorted((data / folder).rglob("*")):
            if path.suffix in (".jpg", ".jpeg", ".png"):
                with Image.open(path) as image:
                    yield folder, image.convert("RGB")


class Part:
    """Hashes of one half of the bases with their copies and look-alikes; equal `base` means the same base image."""

    def __init__(self) -> None:
        self.base: list[int] = []
        self.kind: list[str] = []  # "" for bases
        self.hashes: list[ImageHash] = []
        self.phash: list[int] = []

    def add(self, base: int, kind: str, image: Image.Image) -> None:
        self.base.append(base)
        self.kind.append(kind)
        self.hashes.append(image_hash(image))
        self.phash.append(int(str(imagehash.phash(image)), 16))


def make_parts(made: int, data: Path) -> tuple[tuple[Part, Part], Counter[str]]:
    parts, kinds = (Part(), Part()), Counter[str]()
    sources = [(kind, image, None) for kind, image in real_images(data)] if data.is_dir() else []
    number = 0
    for kind, image, lookalike in [*sources, *bases(made, seed=0)]:
        # alternate between the halves within each kind
        part = parts[kinds[kind] % 2]
        kinds[kind] += 1
        part.add(number, "", image)
        for what, copy in copies(image, f"copy-{number}"):
            part.add(number, what, copy)
        number += 1
        if lookalike is not None:
            part.add(number, f"look-alike: {kind}", lookalike)
            number += 1
    return parts, kinds


def run(part: Part, options: dedup.DedupOptions) -> tuple[list[int], Counter[str]]:
    """The group of each image of the part as assigned by `dedup`, and its counts."""
    text = text_hashes.pack(text_hashes.text_hash("What is shown?"))
    signatures = [
        Signature(
            str(no),
            "made",
            "made",
            {"media": [{"kind": "image", "frames": [image_hashes.pack(h)]}], "text": text, "answer": ""},
        )
        for no, h in enumerate(part.hashes)
    ]
    group = list(range(len(signatures)))
    with tempfile.TemporaryDirectory() as folder:
        context = Context(Path(folder))
        for decision in dedup.decide(lambda: iter(signatures), options, context):
            group[int(decision.id)] = int(decision.kept or decision.id)
    return group, context.counts


def judge(part: Part, group: list[int]) -> dict[str, Any]:
    """Recall by kind, precision over all pairs in one group, and the number of merged look-alikes."""
    base_group = {base: group[no] for no, (base, kind) in enumerate(zip(part.base, part.kind)) if not kind}
    found: dict[str, list[bool]] = defaultdict(list)
    merged: dict[str, list[bool]] = defaultdict(list)
    members: dict[int, list[int]] = defaultdict(list)
    for no, (base, kind) in enumerate(zip(part.base, part.kind)):
        members[group[no]].append(base)
        if kind.startswith("look-alike"):
            merged[kind].append(group[no] == base_group[base - 1])
        elif kind:
            found[kind].append(group[no] == base_group[base])
    pairs = right = 0
    for inside in members.values():
        pairs += len(inside) * (len(inside) - 1) // 2
        right += sum(n * (n - 1) // 2 for n in Counter(inside).values())
    all_found = [ok for oks in found.values() for ok in oks]
    return {
        "recall": {kind: float(np.mean(oks)) for kind, oks in found.items()},
        "recall_all": float(np.mean(all_found)),
        "precision": right / pairs if pairs else 1.0,
        "merged": {kind: float(np.mean(oks)) for kind, oks in merged.items()},
        "merged_all": float(np.mean([ok for oks in merged.values() for ok in oks])),
        "copies": len(all_found),
        "look_alikes": sum(map(len, merged.values())),
    }


def phash_alone(part: Part, bits: int) -> dict[str, Any]:
    """The same figures for ImageHash's 64-bit phash within `bits`, groups being unions of pairs."""
    group = list(range(len(part.phash)))

    def root(no: int) -> int:
        while group[no] != no:
            no = group[no]
        return no

    hashes = np.array(part.phash, np.uint64)
    for no in range(len(hashes)):
        for other in np.flatnonzero(np.bitwise_count(hashes[:no] ^ hashes[no]) <= bits):
            a, b = sorted((root(no), root(int(other))))
            group[b] = a
    return judge(part, [root(no) for no in range(len(group))])


def sweep(part: Part) -> None:
    """Recall of copies and merged look-alikes, for pairs with the base, over a range of thresholds."""
    rows = []
    base = 0
    for no, kind in enumerate(part.kind):
        if not kind:
            base = no
        else:
            rows.append((kind.startswith("look"), likeness(part.hashes[base], part.hashes[no])))
    for bits in (48, 64, 80):
        print(f"\nthresholds, pairs within {bits} bits: recall of copies / look-alikes taken for copies")
        for correlation, patch, detail in SWEEP:
            passed: dict[bool, list[bool]] = {True: [], False: []}
            for look, like in rows:
                ok = like.bits <= bits and like.correlation >= correlation and like.worst_patch >= patch
                passed[look].append(ok and like.detail >= detail)
            print(
                f"  correlation {correlation:.2f} worst patch {patch:.2f} detail {detail:.2f}: "
                f"{np.mean(passed[False]):.4f} / {np.mean(passed[True]):.4f}"
            )


# ------------------------------------------------------------------------------------------------------------- texts


def questions(data: Path) -> list[str]:
    found: list[str] = []
    for path in (data / "tabmwp").glob("*.json"):
        found += [problem["question"] for problem in json.loads(path.read_text(encoding="utf-8")).values()]
    for path in sorted((data / "gsm8k").glob("*.jsonl")):
        with path.open(encoding="utf-8") as file:
            found += [row["question"] for row in map(json.loads, file) if "question" in row]
    return sorted(set(found))


def edits(question: str, r: random.Random) -> Iterator[tuple[str, str]]:
    """(what was done, the edited question)"""
    yield (
        "upper case, without punctuation",
        re.sub(r"[^\w\s.,]|(?<!\d)[.,]|[.,](?!\d)", " ", question).upper(),
    )
    yield "“Question:” before it", f"Question: {question}"
    yield "“Answer with a number.” after it", f"{question} Answer with a number."
    tokens = question.split()
    cut = r.randrange(len(tokens))
    yield "one word left out", " ".join(t for i, t in enumerate(tokens) if i != cut or re.search(r"\d", t))
    yield "line breaks and double spaces", "\n".join(question.split(". ")).replace(" ", "  ")


def measure_texts(data: Path) -> dict[str, Any]:
    asked = questions(data)
    if not asked:
        return {}
    limits = dedup.DedupOptions().thresholds()
    hashes = [text_hashes.text_hash(q) for q in asked]
    found: dict[str, list[bool]] = defaultdict(list)
    for no, question in enumerate(asked):
        for what, edited in edits(question, random.Random(no)):
            copy = text_hashes.text_hash(edited)
            keys = [set(text_hashes.bands(text, numbers=True)) for text in (copy, hashes[no])]
            in_band = bool(keys[0] & keys[1])
            found[what].append(in_band and texts_alike(copy, hashes[no], limits) is not None)
    pairs = [(i, j) for i in range(len(asked)) for j in range(i)]
    taken = [(i, j) for i, j in pairs if texts_alike(hashes[i], hashes[j], limits)]
    alike = [(i, j) for i, j in pairs if text_hashes.similarity(hashes[i], hashes[j]) >= limits.text]
    for i, j in taken[:5]:
        print(f"  taken for one: {asked[i]!r} / {asked[j]!r}")
    return {
        "recall": {kind: float(np.mean(oks)) for kind, oks in found.items()},
        "questions": len(asked),
        "pairs": len(pairs),
        "pairs_taken_for_one": len(taken),
        "pairs_taken_for_one_without_the_numbers": len(alike),
    }


# -------------------------------------------------------------------------------------------------------------- main


def show(title: str, result: dict[str, Any]) -> None:
    print(f"\n{title}: recall {result['recall_all']:.4f} of {result['copies']} copies,", end=" ")
    print(
        f"precision {result['precision']:.4f}, {result['merged_all']:.4f} of {result['look_alikes']} merged"
    )
    for kind, recall in [*result["recall"].items(), *result["merged"].items()]:
        print(f"  {recall:.3f}  {kind}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    shared = os.environ.get("ONSIGHT_SHARED", Path(__file__).parents[2] / "shared")
    parser.add_argument("--made", type=int, default=240, help="number of made bases")
    parser.add_argument("--data", type=Path, default=Path(shared) / "data")
    parser.add_argument(
        "--sweep",
        action="store_true",
        help="print the trade-off over thresholds on the half used for choosing them",
    )
    arguments = parser.parse_args()
    start = time.process_time()
    (choosing, checking), kinds = make_parts(arguments.made, arguments.data)
    hashed = len(choosing.hashes) + len(checking.hashes)
    print(f"bases: {dict(kinds)}; {hashed} images made and hashed in {time.process_time() - start:.0f} s CPU")
    if arguments.sweep:
        sweep(choosing)
    options = dedup.DedupOptions(mode="media")
    results: dict[str, Any] = {"thresholds": options.thresholds().__dict__, "bases": sum(kinds.values())}
    for name, part in (("choosing", choosing), ("checking", checking)):
        start = time.process_time()
        group, counts = run(part, options)
        results[name] = judge(part, group) | {
            "images": len(part.hashes),
            "pairs_judged": counts["pairs_of_media"],
            "cpu_s": round(time.process_time() - start, 1),
        }
        show(f"dedup, {name} half", results[name])
    for bits in (4, 8, 12):
        results[f"phash_{bits}"] = phash_alone(checking, bits)
        show(f"ImageHash phash within {bits} bits, checking half", results[f"phash_{bits}"])
    results["texts"] = measure_texts(arguments.data)
    print(f"\ntexts: {results['texts']}\n")
    print(json.dumps(results))


if __name__ == "__main__":
    main()
