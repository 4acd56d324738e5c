"""Questions spread out over clusters of similar ones."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from data_recipes.operations.diversify import Diversify, cluster, decide, sign, tf_idf
from data_recipes.records import Context, Signature
from tests.data_recipes.endpoints import scripted_teacher

TOPICS = {
    "birds": ["which bird sings in the tree", "what does this bird eat", "is the bird in the tree a robin"],
    "sums": ["add the numbers seven and nine", "what is the sum of the numbers", "add seven to the sum"],
    "cars": ["这辆汽车是什么颜色", "汽车停在哪里", "这辆汽车有几个轮子"],
}


def signatures(counts: dict[str, int]) -> list[Signature]:
    found = []
    for topic, count in counts.items():
        for i in range(count):
            prompt = [{"role": "user", "content": f"{TOPICS[topic][i % 3]} {'' if i < 3 else i}"}]
            found.append(
                Signature(
                    f"{topic}{i}", "chat", "s", sign({"prompt": prompt}, Diversify(clusters=1, per_cluster=1))
                )
            )
    return found


def kept(signed: list[Signature], options: Diversify, folder, seed: int = 0) -> Counter[str]:
    gone = {d.id for d in decide(lambda: iter(signed), options, Context(folder, seed))}
    return Counter(s.id.rstrip("0123456789") for s in signed if s.id not in gone)


def test_frequent_topics_are_thinned_and_rare_ones_stay(tmp_path):
    signed = signatures({"birds": 30, "sums": 3, "cars": 12})
    left = kept(signed, Diversify(clusters=9, per_cluster=2), tmp_path)
    assert left.total() <= 18 and left["sums"] / 3 > left["cars"] / 12 > left["birds"] / 30 > 0


def test_the_same_question_again_and_again_is_one_cluster(tmp_path):
    signed = [
        replace(s, data=signatures({"birds": 3, "cars": 3})[i % 6].data)
        for i, s in enumerate(signatures({"birds": 60}))
    ]
    context = Context(tmp_path)
    gone = list(decide(lambda: iter(signed), Diversify(clusters=50, per_cluster=2), context))
    assert context.counts["clusters"] == 6 and len(gone) == 60 - 6 * 2


def test_the_same_rows_stay_every_time_and_the_seed_changes_them(tmp_path):
    signed = signatures({"birds": 30, "cars": 30})
    options = Diversify(clusters=2, per_cluster=4)
    first, again, other = (
        [d.id for d in decide(lambda: iter(signed), options, Context(tmp_path, seed))] for seed in (0, 0, 1)
    )
    assert first == again != other and len(first) == 52


def test_embeddings_come_from_an_endpoint_where_one_is_named(tmp_path):
    """The endpoint's vectors know what the words do not: which topic a question is of."""

    def script(body, number):
        return json.dumps([[1.0, 0.0] if "bird" in text else [0.0, 1.0] for text in body["input"]])

    signed = signatures({"birds": 5, "sums": 5, "cars": 5})
    with scripted_teacher(script) as teacher:
        options = Diversify(clusters=9, per_cluster=4, embeddings={"base_url": teacher.url, "model": "e"})
        context = Context(tmp_path)
        gone = list(decide(lambda: iter(signed), options, context))
    assert len(gone) == (5 - 4) + (10 - 4) and context.counts["clusters"] == 2
    assert all(d.rule == "cluster_full" for d in gone)


@pytest.mark.parametrize("texts", [["a"], ["", ""], ["!", "?"], ["a b", ""], ["same"] * 5])
def test_texts_without_words_or_differences_are_clustered_too(texts):
    found = tf_idf(texts, 0)
    assert len(found) == len(texts) and len(cluster(found, 3, 0)) == len(texts)


def test_many_words_are_reduced_to_few_dimensions():
    rng = np.random.default_rng(0)
    texts = [" ".join(f"w{n}" for n in rng.integers(0, 2000, 20)) for _ in range(400)]
    found = tf_idf(texts, 0)
    assert found.shape == (400, 256) and np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_no_rows_are_no_error(tmp_path):
    assert list(decide(lambda: iter(()), Diversify(clusters=2, per_cluster=1), Context(tmp_path))) == []
