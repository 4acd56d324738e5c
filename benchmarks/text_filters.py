"""The text filters on real rows that were read and judged by hand: what they should take, and what they take.

    python -m benchmarks.text_filters [FOLDER] [--math FOLDER] [--wrong]

FOLDER (default ../shared/data beside the repository, or $ONSIGHT_SHARED/data) holds public sets: TabMWP's human solutions,
rollouts with verdicts, MATH-V questions and answers of three models, Bard's answers to MathVista, GSM8K, ScreenAgent. --math
names `evaluation/data` of the repository QwenLM/Qwen2.5-Math, for more Chinese problems, proofs and multiple choice. A set
that is not there is named. What a reader decided stands in text_filters.json: the rows listed should be found, the others not.
Languages are known from the sets. Sentences that speak of a given answer or an unseen image are our own, put into the middle
of real solutions, as no public set of traces has many; Bard's refusals are real.

Half of the rows (by a checksum of their name) were there for choosing rules; `aside` is the other half, and of the sentences
those written after the rules. The last line is JSON; `--wrong` lists what was decided otherwise. Exit status 1 if no set is there.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from data_recipes.operations import OPERATIONS
from data_recipes.records import Context, Removed

LABELS = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
MODELS = ("Gemini-Pro-CoT", "InternLM-XComposer2-VL-CoT", "Qwen-VL-Max-CoT")

Row = dict[str, Any]
Judged = tuple[str, Row, bool]
"""(name of the row, row, whether the filter should find it)"""


def row(name: str, prompt: str, trace: str | None = None, *, image: bool = False, answer: Any = None) -> Row:
    content: list[Row] = [{"type": "image"}] if image else []
    said = None if trace is None else [{"role": "assistant", "content": trace}]
    user = [{"role": "user", "content": [*content, {"type": "text", "text": prompt}]}]
    media = {"images": ["image.png"]} if image else {}  # never opened by these filters
    return {"id": name, "task": "math", "prompt": user, "answer": answer, "trace": said, **media}


class Sets:
    """The files of the sets; a missing one has no rows and is noted."""

    def __init__(self, folder: Path, math: Path | None):
        self.folder, self.math, self.missing = folder, math, set[str]()

    def read(self, name: str) -> Any:
        path = self.folder / name
        if not path.is_file():
            self.missing.add(name)
            return {} if name.endswith(".json") else []
        text = path.read_text(encoding="utf-8")
        return json.loads(text) if name.endswith(".json") else _lines(text)

    def read_math(self, name: str) -> list[Row]:
        if self.math is None:
            return []
        return _lines((self.math / name / "test.jsonl").read_text(encoding="utf-8"))

    def solutions(self) -> Iterator[tuple[str, str]]:
        """(name, text) of human solutions and of rollouts."""
        for pid, problem in self.read("tabmwp/problems.json").items():
            yield f"tabmwp/{pid}", problem["solution"]
        for at, group in enumerate(self.read("rollouts_math8/math_cot.jsonl")):
            for i, text in enumerate(group["response"]):
                yield f"rollouts/{at}/{i}/{'right' if group['score'][i] else 'wrong'}", text

    def questions(self) -> Iterator[tuple[str, str, str]]:
        """(name, language, question)."""
        for pid, problem in self.read("tabmwp/problems.json").items():
            yield f"tabmwp/{pid}", "en", problem["question"]
        for name in (
            "gsm8k/train.subset.jsonl",
            "mathv/questions_for_outputs.jsonl",
            "rollouts_math8/math_cot.jsonl",
        ):
            for at, line in enumerate(self.read(name)):
                yield f"{name}/{at}", "en", line["question"]
        for pid, line in self.read("mathvista_outputs/output_bard.json").items():
            yield f"mathvista/{pid}", line["metadata"]["language"][:2].replace("ch", "zh"), line["question"]
        for at, line in enumerate(self.read("screenagent/clicks.jsonl")):
            session = self.read(f"screenagent/{line['json']}")
            if session:
                yield f"screenagent/{at}", "zh", session["send_prompt_zh"]
        for name in ("cmath", "cn_middle_school", "gaokao_math_cloze", "gaokao_math_qa"):
            for at, line in enumerate(self.read_math(name)):
                yield f"{name}/{at}", "zh", line["question"]
        for name, field in (("college_math", "question"), ("asdiv", "question"), ("carp_en", "content")):
            for at, line in enumerate(self.read_math(name)):
                yield f"{name}/{at}", "en", line[field]

    def replies(self) -> Iterator[tuple[str, str, str]]:
        """(name, question, text) of models that were shown an image."""
        for model in MODELS:
            for line in self.read(f"mathv/outputs/{model}.jsonl"):
                yield f"mathv/outputs/{model}.jsonl/{line['id']}", "", line["response"]
        for pid, line in self.read("mathvista_outputs/output_bard.json").items():
            yield f"mathvista/{pid}", line["question"], line["response"]


def _lines(text: str) -> list[Row]:
    return [json.loads(line) for line in text.split("\n") if line.strip()]


def repetition(sets: Sets) -> Iterator[Judged]:
    loops = {f"{name}/{i}" for name, ids in LABELS["loops"].items() for i in ids}
    for name, text in sets.solutions():
        yield name, row(name, "?", text), False
    for name, _, text in sets.replies():
        yield name, row(name, "?", text), name in loops


def language(sets: Sets, wanted: str) -> Iterator[Judged]:
    for name, code, question in sets.questions():
        yield name, row(name, question), code != wanted


def proofs(sets: Sets) -> Iterator[Judged]:
    for name, _, question in sets.questions():
        which, _, at = name.partition("/")
        if which != "college_math":
            yield name, row(name, question), False
        else:
            yield name, row(name, question), int(at) in LABELS["proofs"]["college_math"]
    for line in sets.read_math("olympiadbench"):
        name = f"olympiadbench/{line['id']}"
        yield name, row(name, line["question"]), line["id"] in LABELS["proofs"]["olympiadbench"]


def choices(sets: Sets) -> Iterator[Judged]:
    for line in sets.read("mathv/questions_for_outputs.jsonl"):
        if line["options"]:
            answer = {"letter": line["answer"], "options": line["options"]}
            name = f"mathv/{line['id']}"
            yield (
                name,
                row(name, line["question"], answer=answer),
                line["id"] in LABELS["needs_options"]["mathv"],
            )
    for at, line in enumerate(sets.read_math("sat_math")):
        name = f"sat_math/{at}"
        text = f"{line['question']}\n{line['options']}"
        yield (
            name,
            row(name, text, answer={"letter": line["Answer"]}),
            at in LABELS["needs_options"]["sat_math"],
        )


def slips(sets: Sets, kind: str) -> Iterator[Judged]:
    """Our sentences, each in the middle of a real solution; and real solutions and replies as they are."""
    solutions = list(sets.solutions())
    for half, judged in LABELS["sentences"][kind].items():
        for said, sentences in judged.items():
            for at, sentence in enumerate(sentences):
                name = f"sentence/{half}/{said}/{at}"
                _, text = solutions[(7 * at) % len(solutions)] if solutions else ("", "")
                lines = text.split("\n")
                lines.insert(len(lines) // 2, sentence)
                yield name, row(name, "?", "\n".join(lines), image=True), said == "yes"
    for name, text in solutions:
        yield name, row(name, "?", text, image=True), False
    unseen = {f"mathvista/{pid}" for pid in LABELS["unseen_media"]["mathvista_outputs"]}
    for name, question, text in sets.replies():
        yield name, row(name, question, text, image=True), kind == "unseen_media" and name in unseen


def half_of(name: str) -> str:
    if name.startswith("sentence/"):
        return name.split("/")[1]
    return "aside" if zlib.crc32(name.encode()) % 2 else "rules"


def found(operation: str, options: dict[str, Any], rows: Iterable[Row], rules: tuple[str, ...]) -> set[str]:
    """Ids of the rows that an operation takes out by one of the rules (any rule that begins so)."""
    made: Any = OPERATIONS[operation]
    with tempfile.TemporaryDirectory() as folder:
        out = list(made.apply(iter(rows), made.options(**options), Context(Path(folder))))
    return {each.row["id"] for each in out if isinstance(each, Removed) and each.rule.startswith(rules)}


def checks(sets: Sets) -> Iterator[tuple[str, list[Judged], set[str]]]:
    """(filter, judged rows, ids it finds)."""
    quiet = {"repetition": False}
    for name, judged, operation, options, rules in (
        ("repetition", repetition(sets), "text_filter", {}, ("loop", "repeated", "top_")),
        ("languages: [en]", language(sets, "en"), "text_filter", {"languages": ["en"]}, ("language",)),
        ("languages: [zh]", language(sets, "zh"), "text_filter", {"languages": ["zh"]}, ("language",)),
        ("drop_proofs", proofs(sets), "drop_proofs", {}, ("proof",)),
        (
            "free_form, needs its options",
            choices(sets),
            "free_form",
            {"otherwise": "drop"},
            ("choice_needs_options",),
        ),
        ("given_answer", slips(sets, "given_answer"), "text_filter", quiet, ("given_answer",)),
        ("unseen_media", slips(sets, "unseen_media"), "text_filter", quiet, ("unseen_media",)),
    ):
        rows = list(judged)
        taken = found(operation, options, (each for _, each, _ in rows), rules)
        if operation == "free_form":  # rows that leave for another reason were not judged by this one
            others = found(operation, options, (each for _, each, _ in rows), ("choice_",)) - taken
            rows = [each for each in rows if each[0] not in others]
        yield name, rows, taken


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.text_filters", description=__doc__.split("\n")[0])
    default = Path(os.environ.get("ONSIGHT_SHARED", Path(__file__).parents[2] / "shared")) / "data"
    parser.add_argument("folder", nargs="?", type=Path, default=default)
    parser.add_argument("--math", type=Path)
    parser.add_argument("--wrong", action="store_true")
    args = parser.parse_args(arguments)
    sets, result = Sets(args.folder, args.math), {}
    print(
        f"{'filter':30} {'half':6} {'rows':>6} {'should':>7} {'found':>6} {'wrongly':>8} {'precision':>10} {'recall':>7}"
    )
    for name, rows, taken in checks(sets):
        counts: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
        for key, _, should in rows:
            at, took = counts[half_of(key)], key in taken
            for i, one in enumerate((True, should, should and took, took and not should)):
                at[i] += one
            if args.wrong and took != should:
                print(f"    {'taken' if took else 'missed'}: {key}")
        for half, (total, wanted, hit, wrongly) in sorted(counts.items(), reverse=True):
            precision = f"{hit / (hit + wrongly):.3f}" if hit + wrongly else "-"
            recall = f"{hit / wanted:.3f}" if wanted else "-"
            print(f"{name:30} {half:6} {total:6} {wanted:7} {hit:6} {wrongly:8} {precision:>10} {recall:>7}")
            result[f"{name}/{half}"] = {"rows": total, "should": wanted, "found": hit, "wrongly": wrongly}
    for name in sorted(sets.missing):
        print(f"not there: {args.folder / name}")
    print(json.dumps(result, ensure_ascii=False))
    if not any(True for _ in sets.solutions()):
        print(f"no set is in {args.folder}: nothing real was checked", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
