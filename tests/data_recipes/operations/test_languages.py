"""The language of a text: by its script, by its prose among formulas, and unknown where there is no prose."""

from __future__ import annotations

import pytest

from data_recipes.operations.languages import differ, is_allowed, language

CHINESE = [
    "小红有12个苹果，吃了3个，还剩几个？",
    "求AB的长。",
    "已知 $x+y=3$，则 $2x+2y=$ ( )",
    "計算三角形的面積。",
    "佢哋有幾多個蘋果？",
    "若 \\frac{a}{b}=1+\\mathrm{i}, 则 a 的值为 A. 1 B. \\mathrm{i} C. 2+\\mathrm{i}",
    "解方程组：\\begin{cases} 2x+y=3 \\\\ x-y=1 \\end{cases}",
    "Hint: Please answer the question and provide the correct option letter.\nQuestion: 如图，点D在线段AB上，则∠1的度数为（ ）",
    "打开 Microsoft Excel 并点击 Insert",
]
ENGLISH = [
    "How many apples are left?",
    "What does the sign “小心地滑” mean?",
    "What does 小心地滑 on the sign mean in English?",
    "Find $x$ if $\\alpha + 2x = 90^\\circ$ and the angles are complementary.",
    "The caption reads 「こんにちは」. Who says so in the first picture?",
    "The magnetic moment (μI) of the nucleus is asked for.",
]
NO_PROSE = ["$x^2 + 1 = 0$", "AB = 5", "12", "\\frac{1}{2} \\times 3", "x = ?", ""]


@pytest.mark.parametrize("text", CHINESE)
def test_chinese_is_chinese_whatever_stands_beside_it(text):
    assert language(text).code == "zh"
    assert not is_allowed(language(text), ("en",), 0.8)
    assert is_allowed(language(text), ("zh",), 0.8) and is_allowed(language(text), ("yue",), 0.8)


@pytest.mark.parametrize("text", ENGLISH)
def test_english_may_cite_others_and_hold_formulas(text):
    assert is_allowed(language(text), ("en",), 0.8)
    assert not is_allowed(language(text), ("zh",), 0.8)


@pytest.mark.parametrize("text", NO_PROSE)
def test_texts_without_prose_are_in_any_language(text):
    assert all(is_allowed(language(text), (code,), 0.8) for code in ("en", "zh", "ru"))


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("ja", "りんごはいくつ残っていますか。"),
        ("ja", "直角三角形の面積を求めなさい。"),
        ("ko", "사과가 몇 개 남았습니까?"),
        ("ru", "Сколько яблок осталось в корзине после обеда?"),
        ("ar", "كم تفاحة بقيت في السلة بعد الغداء؟"),
        ("th", "เหลือแอปเปิ้ลกี่ลูก"),
        ("de", "Wie viele Äpfel sind noch im Korb, nachdem Anna drei gegessen hat?"),
        ("es", "¿Cuántas manzanas quedan en la cesta después de comer tres?"),
        ("no", "Hvor mange epler er igjen i kurven etter at hun har spist tre?"),
    ],
)
def test_other_languages_are_told_apart(code, text):
    assert language(text).code == code
    assert not is_allowed(language(text), ("en", "zh"), 0.8)


def test_a_short_text_in_latin_letters_is_at_least_not_chinese():
    found = language("Simplify the radical.")
    assert is_allowed(found, ("en",), 0.8) and not is_allowed(found, ("zh", "ru"), 0.8)


def test_prompt_and_trace_differ_by_script_where_the_language_is_unsure():
    asked, told = language("求三角形ABC的面积，其中AB=5。"), language("Simplify the radical, evaluate.")
    assert differ(asked, told, 0.99)
    assert not differ(asked, language("5 \\times 6 = 30"), 0.8)
    assert not differ(language("How many?"), language("The table lists the price of every animal."), 0.8)


@pytest.mark.parametrize(
    "text", ["a" * 200_000, "$" * 200_000, '"' * 100_001, "\\(" * 80_000, "```" * 60_000, "<" * 100_000]
)
def test_long_texts_come_to_an_end(text):
    language(text)
