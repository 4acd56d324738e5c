"""Choices: the forms that models write are read, and nothing else is paid."""

from __future__ import annotations

from typing import Any

import pytest

from rewards.functions.choice import choice_reward

BUS = {"letter": "B", "options": ["a boat", "a bus", "two buses", "none of these"]}

CHOOSES_B = [
    'B!', 'B;', '[B]', '【B】', '（B）', 'Ｂ', '选项B', '应选B', '故选：B', '故选B。', '答案为B', '正确答案是B', '答案是 (B)',
    'B、a bus', 'B：a bus', 'B: a bus', 'B - a bus', 'B — a bus', 'B) A bus.', 'Answer - B', 'Ans: B',
    'The answer: B', 'Final answer: B', '### Answer: B', '**Final Answer:** B', 'Answer is B',
    'the right answer is B', 'The best answer is option B', 'The correct choice would be B',
    'The answer should be B', 'Correct answer: B', '\n\nB', r'\boxed{(B)}', r'\boxed{\mathrm{B}}',
    r'\textbf{B}', r'\mathbf{B}', r'$\mathbf{(B)}$', r'\boxed{\text{B}}', r'\boxed{\textbf{B}}',
    r'\boxed{B. a bus}', r'\boxed{B}.', '**B**.', '**(B)**', '`B`', '"B"', "'B'", 'B is right',
    'B is the right choice', 'B is true', 'Option B is correct.', '(B) is the correct answer',
    'B is the best answer because it shows wheels', "I think it's B", 'I think the answer is B',
    'I believe B', 'I choose B', 'I would choose (B).', "It's B", 'It is B.', 'It is a bus.', "It's a bus",
    'The answer is a bus', 'The answer is "a bus".', 'The answer is a bus because it has wheels.',
    'a bus, because it honks', 'B, because A is a boat', 'B. The image shows an vehicle with wheels.',
    'The answer is B. The vehicle has wheels and mirrors.', 'The vehicle has wheels. The answer is B.',
    'The vehicle in the image has wheels.\n\nB', 'B. a bus, not a boat', 'A is wrong, so B.',
    'The answer is B, not A.', '(B) not (A)', 'B not C', 'Not A. B.',
    'Therefore, the correct answer is option (B).', 'Thus the answer is B',
    r'The final answer is $\boxed{B}$.', r'The final answer is: $\boxed{B}$. I hope it is correct.',
    '{"answer": "B"}', '```json\n{"answer": "B"}\n```', '<answer>(B) a bus</answer>',
    '<answer>The answer is B</answer>', '<answer> B </answer>', 'Answer: b', '(b)', 'b)', '答案：**B**',
    '正确选项是B。', '所以选B', '因此，答案是B', '我选B', '选 B', '答案选B', '本题选B', '答案是B，因为有轮子', 'B选项', '选择B',
    'My answer is B.', 'The correct answer is **B**.', 'The correct answer is **B. a bus**.',
    'The correct answer is: B', 'The correct answer is (B) a bus.', 'The correct answer is\n\nB. a bus',
    'Answer:\nB', 'Answer: B) a bus', 'B. A BUS', '(B): a bus', '<b>B</b>', r'\(B\)', r'\text{B}',
    r'\boxed{\text{B. a bus}}', 'Option (B): a bus', 'Option B', 'Letter B', 'The letter is B', 'A bus!',
    '“a bus”', 'the answer is option b', 'The answer is B - a bus.', 'I pick B.', "I'd go with B",
    'Yes, B.', 'The bus stands, hence B.', 'The answer is [B]', "The answer is 'B'.", 'It must be B.',
    'That is B.',
    'Looking at the picture, the vehicle is small and has wheels. Therefore, the answer is **B**.',
    'B (a bus)', 'a bus (B)', '(B) - a bus', 'B → a bus', 'B=a bus', 'B\na bus', 'B!!!', 'b. A Bus',
    'A bus - B', 'B, I think', 'The answer is B (a bus).', 'B [a bus]', 'B: "a bus"', 'B. "a bus"',
    "B. 'a bus'", '**B** a bus', '**B.** a bus', '**B** - a bus', 'B\n\na bus', '(B) **a bus**',
    'Answer: B (a bus)', 'The answer is a bus (B).', 'B a bus', 'Option: B',
    'The correct answer is option B: a bus.', 'The answer would be B', 'Hence B', 'Hence, B.', '=> B',
    '→ B', '- B', '* B', 'B ✓', '✅ B', 'The answer is: (B) a bus', 'The answer is:\n(B) a bus',
    'Final Answer\nB', 'Final Answer\n\n**B**', 'My final answer: B', 'Answer = B', "I'm confident it's B",
    'Definitely B', 'Clearly B.', 'Obviously, B', 'B obviously', 'Surely B', 'B for sure', 'B of course',
    'I would say B', "I'd say (B)", 'B seems right', 'B looks correct', 'B appears to be correct',
    'B it is', 'B makes sense', 'go with B', "Let's go with B", 'B matches', 'B: a bus is shown',
    'B, which is a bus', 'B, as it has wheels', 'B - it has wheels', 'B (because it has wheels)',
    'B since it has wheels', 'B。因为有轮子', '答案：（B）', '答案：B。', '答案: B. a bus', '答案为：B', '答案【B】', '本题答案是B',
    '答案应为B', '应该选B', '我认为是B', '是B', 'B对', 'B正确', '选项B正确', 'B是正确的', 'B 是正确答案', '正确的是B', '选（B）', '选项为B',
]  # fmt: skip
CHOOSES_NOT_B = [
    'B is incorrect', 'B is not correct', 'B is false', '(B) is not correct', "It isn't B", "It's not B",
    'Not B', 'not (B)', 'neither A nor B', 'anything but B', 'all except B', 'everything except B',
    'B is impossible', 'B cannot be right', 'A or B', 'A/B', 'A and B', 'A & B', 'Both A and B',
    'either A or B', 'B, or C', 'A B C D', 'A, B, C, D', '(A), (B)', 'BB', 'The answer is A, not B',
    'B? No, C.', 'B?', 'Maybe B', 'perhaps B', 'between B and C', 'B; C', 'B+C', 'C. a bus', 'two buses',
    'a bus and a boat', 'a bus or a boat', 'not a bus', 'The answer is a boat', 'none of these', 'no bus',
    "B isn't the answer", '不是B', '不选B', '答案不是B', '答案：A', '选A', 'A或B', 'AB都对', r'\boxed{A} or \boxed{B}',
    r'\boxed{A}, \boxed{B}', r'\boxed{B} or C', r'not \boxed{B}', 'B or C?', r'\boxed{\text{not B}}',
    r'\boxed{B \text{ or } C}', 'b c', 'Bee', 'B1', 'B2 a bus', 'Best', 'Be', 'bus a', 'a', 'the bus',
    'a bus a boat', 'buses', 'B. bus or boat', 'The answer is C', 'A. The answer is a boat.',
    'It could be B', 'It might be B.', "I don't know", 'The answer is not a bus', '(C) a bus',
    'B. two buses', 'D', 'Β', 'ᗷ', '🅱', 'a bus?', 'Everything but B', 'Could be A or B.',
    '<answer>A</answer><answer>C</answer>', '{"answer": ["A","B"]}', '{"answer": "A"}', 'I rule out B',
    'B is ruled out', 'I eliminate B.', 'B is unlikely', "B isn't", 'B, C, D', 'All of the above', 'A,B',
    '(B)(C)', 'B/C', 'option A or B', 'B and D', 'not sure, B or C', 'The correct answer is not B.',
    "The correct answer isn't (B).", 'except B', 'a bus is wrong', "a bus isn't correct", 'BBB', 'Bbus',
    'B. a ca', 'C. none', 'B.a boat', 'B. a bus. A. a boat', 'b c d', 'Not sure, maybe B', 'B or a boat',
    'A boat. B', 'B错', 'B不对', 'B是错的', 'B不正确', '除了B', 'B and C are both right', 'B 或 C', 'B和C', 'B、C',
    'BC都对', 'ABC', 'B-C', 'B→C', 'B vs C', 'B > C', 'B not C not B', 'anything except B', 'Not B.', 'B? ',
    'is it B?', 'Could it be B?', 'B would be wrong', "B can't be", 'B must be wrong',
    'B is not the answer.', "I don't think it's B", 'I doubt B', 'B is doubtful', 'no B', 'B no', 'B? A? ',
    'A B', 'A, or B', 'an', 'the', 'I', 'i', 'c', 'C', '(C) two buses', '2', 'b b b c', 'option', 'answer',
    'The answer is', 'Answer:', r'\boxed{}', r'\boxed{ABCD}', r'\boxed{A or B}', r'\boxed{B?}',
    r'\boxed{not B}', '{A, B}', '[A, B]', '{A,B}', r'B\C', '',
]  # fmt: skip
B_WITHOUT_OPTIONS = [
    'B)', 'B. Paris', '(B) Paris', 'B: 12.5 m/s', 'B - Paris', 'B. 3/4', r'(B) $\frac{1}{2}$', 'B. x + 2',
    'B. Both points lie on the line', '(B) The first graph', 'B. It is blue', 'B. None of the above',
    '(B) none', 'B. 0', 'B) Vitamin B', 'B. Points P and Q', '(B) 5 A', 'B. Type A', 'B. yes', 'B. CO2',
    'B. Plan A', '(B) 2 C', 'B. II', 'B. True', 'B: blue', '(B) red and blue', 'B. ABC', 'B. 1, 2 and 3',
    'B) y', 'B. n', 'B. 37°C', '**B. Paris**', 'The answer is B. Paris', 'The answer is (B) 12',
    r'\boxed{B. 12}', '(B) 12 or more', 'B. 50%', 'B. No solution',
]  # fmt: skip
NOT_B_WITHOUT_OPTIONS = [
    'B. incorrect', 'B. false', 'B is wrong', '(B) wrong', '(B) is wrong', 'B) is not right', 'B. no',
    'B: no', 'B. d', '(B) c', 'B: C', 'B - A', 'B. C.', 'B. and C', 'B or A', 'B. or C', '(B) and (C)',
    '(B), (C)', 'B. Paris or C. Rome', '(B) Paris (C) Rome', 'B. A', 'B. D. ', 'B; C', 'B/C', '(B)/(C)',
    'B C', "B. isn't it", 'B. is incorrect', 'B) is false', 'B. not it', 'B. not the answer',
    'B. Not correct', 'B. (A)', 'B, maybe C', 'B or maybe C', '(B) or possibly (d)', 'B... A', 'B... C',
    'BC', 'B.C.', 'A.B.', 'not B', 'A nice B', 'B. wrong answer', 'C. a B', 'B. No, it is C',
    "B. no it isn't",
]  # fmt: skip


@pytest.mark.parametrize("text", CHOOSES_B)
def test_a_choice_is_read_in_the_forms_that_models_write(text: str) -> None:
    assert choice_reward(text, BUS) == 1.0


@pytest.mark.parametrize("text", CHOOSES_NOT_B)
def test_what_denies_leaves_open_or_chooses_something_else_earns_nothing(text: str) -> None:
    assert choice_reward(text, BUS) == 0.0


@pytest.mark.parametrize("text", B_WITHOUT_OPTIONS)
def test_a_letter_may_stand_with_a_text_where_the_options_are_not_known(text: str) -> None:
    assert choice_reward(text, {"letter": "B"}) == 1.0


@pytest.mark.parametrize("text", NOT_B_WITHOUT_OPTIONS)
def test_a_letter_that_is_denied_or_one_of_several_earns_nothing_without_options(text: str) -> None:
    assert choice_reward(text, {"letter": "B"}) == 0.0


OPTIONS: list[tuple[list[str], str, list[str], list[str]]] = [
    # options, true letter, equal to the true option, not equal to it
    ([r'$\frac{1}{2}$', '4'], 'A', ['1/2', '0.5', r'\dfrac{1}{2}', r'\boxed{\dfrac12}', r'$\tfrac{1}{2}$', '½', r'\frac12', 'A. 1/2', r'(A) $\dfrac{1}{2}$'], ['2', r'\frac{2}{1}', r'\frac{1}{4}', '1', '12']),
    (['135°', '140°'], 'B', ['140°', '140 degrees', r'140^\circ', r'$140^{\circ}$', 'B. 140°', 'B. 140', '140°.'], ['135', '1400', '14', '14°', '140 or 135']),
    (['3', '4'], 'A', ['3', '3.00', 'three', '(A) 3', 'The answer is 3.', '$3$'], ['4', '3.5', '34', '-3']),
    (['1,000', '2,000'], 'A', ['1,000', '1000.0', 'A. 1000', '$1,000'], ['2000', '1,00', '100']),
    (['1', '2', '3'], 'B', ['2', '2.', 'B. 2', r'\boxed{2}'], ['1', 'A', '3', 'B. 3']),
    (['B', 'A', 'C'], 'A', ['A', 'A. B', '(A) B'], ['B']),
    (['12 cm', '15 cm'], 'B', ['15', '15cm', '15 cm', r'15\text{ cm}', 'B. 15 cm'], ['12', '15 m']),
    ([r'\sqrt{2}', r'2\sqrt{2}', r'\sqrt{3}'], 'C', [r'\sqrt3', '√3', r'$\sqrt{3}$', r'\boxed{\sqrt{3}}'], [r'\sqrt{2}', '3', 'sqrt']),
    (['Yes', 'No'], 'A', ['Yes', 'yes.', 'A', 'A. Yes', 'Yes, it is.', 'The answer is yes', 'Yes, because it is red.'], ['No', 'no', 'B', 'Yes or no', 'not yes', 'No, A is wrong']),
    (['Yes', 'No'], 'B', ['No', 'no.', 'B. No', 'B', "No, it isn't.", 'The answer is no'], ['Yes', 'A', 'yes, no']),
    (['10%', '20%'], 'A', ['10%', r'10\%', '10 percent', 'A. 10%'], ['20%', '1%']),
    (['x > 2', 'x < 2'], 'B', ['x < 2', 'x<2', '$x<2$', 'B. x < 2'], ['x > 2', '2']),
    (['Not enough information', 'True', 'False'], 'C', ['False', 'C. False', 'C) false', '(C)'], ['True', 'A']),
    (['Not enough information', 'True', 'False'], 'A', ['Not enough information', 'A. not enough information', '(A)'], ['True', 'enough information']),
    (['R/r', 'r/R'], 'B', ['r/R', 'B. r/R'], ['R/r']),
    (['red, green', 'red, blue'], 'A', ['red, green', 'A. red, green', 'Red, green.'], ['red', 'red, blue', 'green']),
    (["$x+3$", "$x-3$"], "B", ["x-3", "x - 3", "$x-3$", "x−3", "B. $x-3$"], ["x+3", "3-x", "x"]),
    ([r"6\pi", r"\pi", r"8\pi"], "A", [r"6\pi", "6π", r"\boxed{6\pi}"], ["6", "π", r"8\pi"]),
    (["(4, 7)", "(7, 4)"], "B", ["(7,4)", "B. (7, 4)", r"\boxed{(7,4)}"], ["(4, 7)", "7", "B. (4,7)"]),
    (["True", "False"], "B", ["False", "The statement is false.", "B. False"], ["True", "not false", "True or False"]),
    (["10 m", "10 km", "10 cm"], "C", ["10cm", r"10\,\text{cm}", "C. 10 cm"], ["10", "10 m", "C. 10 m"]),
    (["59", "135", "270"], "C", ["270°", r"\boxed{270^\circ}", "The angle is 270°."], ["27", "135°"]),
    (["90 g", "16 m"], "B", ["16 m", "B"], ["16", "90", "16 g"]),  # the number alone leaves the unit open
]  # fmt: skip


@pytest.mark.parametrize(("options", "letter", "equal", "others"), OPTIONS)
def test_texts_of_options_are_equal_as_words_numbers_or_latex(
    options: list[str], letter: str, equal: list[str], others: list[str]
) -> None:
    answer: dict[str, Any] = {"letter": letter, "options": options}
    assert {text: choice_reward(text, answer) for text in equal} == dict.fromkeys(equal, 1.0)
    assert {text: choice_reward(text, answer) for text in others} == dict.fromkeys(others, 0.0)
