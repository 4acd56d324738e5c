r"""Characters that mean the same get one form; characters that only look alike keep theirs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.reading.unicode import latex_symbols, plain_characters
from tests.rewards.strategies import fuzz


@pytest.mark.parametrize(
    ("text", "plain"),
    [("１２．５％", "12.5%"), ("答案：Ｂ。", "答案:B."), ("（１，２）", "(1,2)"), ("−7", "-7"), ("﹣7", "-7"), ("–7", "-7"), ("(–7, —8)", "(-7, -8)"), ("2∶3", "2:3")]
    + [("\u200b5\u200b", "5"), ("\ufeff12\u00a0kg", "12 kg"), ("1\u202f000", "1 000"), ("“Main Street”", '"Main Street"'), ("dog’s", "dog's"), ("【3】", "[3]")],
)  # fmt: skip
def test_forms_of_one_character_become_ascii(text: str, plain: str) -> None:
    assert plain_characters(text) == plain


@pytest.mark.parametrize(
    "text", ["٥", "⑤", "Ⅴ", "5\u200b5", "Ƽ", "3–8", "answer — five", "五", "½", "5\u0338"]
)
def test_what_only_looks_alike_or_means_something_else_stays(text: str) -> None:
    assert plain_characters(text) == text


@pytest.mark.parametrize(
    ("text", "latex"),
    [("x²", "x^{2}"), ("10⁻⁹", "10^{-9}"), ("a₁₂", "a_{12}"), ("2√3", r"2\sqrt{3}"), ("√(x+1)", r"\sqrt (x+1)"), ("∛8", r"\sqrt[3]{8}"), ("2½", r"2\frac{1}{2}")]
    + [("3×10⁸", r"3\times 10^{8}"), ("90°", r"90^{\circ}"), ("π/2", r"\pi /2"), ("√π", r"\sqrt{\pi }"), ("x≤3", r"x\le 3"), ("𝑥=𝟓", "x=5"), ("±∞", r"\pm \infty "), ("x∈ℝ", r"x\in \mathbb{R}")],
)  # fmt: skip
def test_mathematical_characters_become_latex(text: str, latex: str) -> None:
    assert latex_symbols(text) == latex


@given(text=st.text(max_size=60))
@fuzz
def test_any_text_is_normalised_once_and_for_all(text: str) -> None:
    assert plain_characters(plain_characters(text)) == plain_characters(text)
    assert latex_symbols(latex_symbols(text)) == latex_symbols(text)
