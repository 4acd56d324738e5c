"""Chart values: one number within the tolerance, in the truth's unit, or the words of the truth."""

from __future__ import annotations

import pytest

from rewards.functions.numeric import relaxed_numeric_reward

CASES: list[tuple[str, list[str], list[str]]] = [
    # truth, equal to it, not equal to it
    (
        '12.5',
        [
            '12.5', '12.4', '13', '12.50', 'The answer is 12.5', '**12.5**', r'\boxed{12.5}', '$12.5$',
            '12.5 units', '12.5 cm', '12.5cm', '~12.5', '≈12.5', 'about 12.5', 'approximately 12.5',
            'around 12.5', 'roughly 12.5', '12,5', 'The value is 12.5', 'The value is 12.5.', 'It is 12.5',
            'The total is 12.5 dollars.', '$12.5', '12.5$', '€12.5', '12.5 USD', 'Answer: 12.5', '答案：12.5',
            '约12.5', '12.5元', '１２．５', '12.5 kg', '12.5 points', 'The value in 2010 was 12.5',
            'In 2010, the value was 12.5', '12.5 (approx.)', '{"answer": 12.5}', '<answer>12.5</answer>',
            '1.25e1', '1.25 × 10^1', '12.5 per year', r'\boxed{12.5 \text{ cm}}',
            '12.5, as shown by the bar', '12.5 because the bar ends there.',
            'The difference is 20 - 7.5 = 12.5', '12.5 or so',
        ],
        [
            '12.5 or 14', '14', '11', '-12.5', '125', '1.25', '12.5%', '12.5 to 14', '12-13',
            'between 12 and 13', 'more than 12.5', 'less than 12.5', 'at least 12.5', 'not 12.5', '12.5?',
            '12.5 million', '12.5k', 'over 12.5', 'maybe 12.5', '12.5, 14', '12 and 13', "isn't 12.5",
            '>12.5', '12:5', '12/5', '1,25', '1.2.5', '12.5.6', '12..5', 'up to 12.5', '12.5 thousand',
            '0.125', 'abc', 'none', '12.5 or 12.4',
        ],
    ),
    (
        '12%',
        [
            '12%', '12 %', '12 percent', r'12\%', '0.12', '12', '12.0%', 'about 12%', 'The share is 12%.',
            '12 per cent', 'twelve percent', '百分之12', '12％', '12.3%',
        ],
        [
            '1.2', '1200%', '0.12%', '120', '14%', '12% or 14%', '20', '-12%', '1200',
        ],
    ),
    (
        '12',
        [
            '12', 'twelve', '12.0', 'Twelve', '12.', '12 people', '12 years', 'a dozen', 'The number is 12',
            '十二', '12.3', '12 items', '12 units',
        ],
        [
            '1200%', '0.12', '1.2', '120', '12%', '12 hundred', '12 million', '14', 'twelve or thirteen',
            'not twelve', '12 thousand', 'twenty', 'dozens', '-12', '0.12%',
        ],
    ),
    (
        '1200',
        [
            '1200', '1,200', '1 200', '$1,200', '1.2k', '1.2 thousand', '12 hundred', '1200.0',
            'twelve hundred', '1.2e3', '1,200 people', 'US$1,200', '1200 USD', '1.2 × 10^3', '1,200.00',
            '1250',
        ],
        [
            '1.2', '12', '1.2 million', '120', '12000', '1,200,000', '1.200.000', '1 2 0 0',
        ],
    ),
    (
        '3000000',
        [
            '3 million', '3,000,000', '3.0e6', '3000000', '3M', '3.0 million', 'three million', '3 000 000',
            '$3 million', '300万', '3 mn', '3.1 million', r'3\times10^6', '3 x 10^6',
        ],
        [
            '3', '3 billion', '3 thousand', '3 hundred', '3k', '30 million', '3000', '3,000', '3B',
        ],
    ),
    (
        'Yes',
        [
            'yes', 'Yes', 'YES.', 'yes, it is', 'Yes, it is.', 'Yes, the blue bar is higher.',
            'The answer is yes', 'The answer is Yes.', '**Yes**', r'\boxed{Yes}', r'\boxed{\text{Yes}}',
            'Yes, because the bar is higher', 'yes!', 'Yes. The blue bar is higher.',
        ],
        [
            'no', 'No, yes', 'yes and no', 'yes or no', 'Yes, no', 'not yes', 'maybe yes', 'yes?', 'Maybe',
            "no, it isn't", 'yesterday', 'Yes/No', '1', 'true',
        ],
    ),
    (
        'No',
        [
            'no', 'No.', "No, it isn't.", 'No, it is not.', 'The answer is no.', 'no, because it is lower',
            'No, the red bar is lower.',
        ],
        [
            'yes', 'not no', 'yes, no', 'No. 5', 'none', 'no or yes', 'maybe no', 'nothing',
        ],
    ),
    (
        '-5',
        [
            '-5', '–5', '−5', '-5.0', 'minus 5', 'negative 5', 'minus five', '－5', '- 5',
            'The change is -5', '-5 degrees',
        ],
        [
            '5', '+5', '-5%', '-50', '-0.5', '5-', 'not -5', '-5 or 5', '—',
        ],
    ),
    (
        '0',
        [
            '0', '0.0', 'zero', '0.00', 'The answer is 0', '-0',
        ],
        [
            '0.001', '1', '-1', 'none', '10', '0.1', 'zero or one',
        ],
    ),
    (
        '0.57',
        [
            '0.57', '57%', '.57', '0.58', '57 percent', '0.57.', '57.5%', 'about 0.57', '0.570',
        ],
        [
            '57', '5.7', '0.57%', '570%', '0.75', '5.7%', '57 or 58',
        ],
    ),
    (
        '50%',
        [
            '50%', '0.5', '50', '50.0%', '50 percent', '0.50', 'fifty percent',
        ],
        [
            '0.4', '60', '60%', '5%', '500%', '5', '0.05', '5000%', '0.5%',
        ],
    ),
    (
        '2010',
        [
            '2010', 'in 2010', 'The year is 2010', '2010.', 'In 2010.', 'Year 2010', 'It was in 2010.',
            '2010年',
        ],
        [
            '1800', '2010 or 2011', '201', 'before 2010', 'between 2009 and 2011', '2010-2012',
            'after 2010', 'not 2010', '20.10',
        ],
    ),
    (
        'Blue',
        [
            'Blue', 'blue', 'blue.', 'Blue color', 'The blue bar', 'It is blue.', 'the color is blue',
            'Answer: Blue', r'\boxed{\text{Blue}}', 'Blue line', '"Blue"', 'The answer is blue.',
            'The color is blue.', 'blue colour', "It's blue",
        ],
        [
            'light blue', 'Blue and red', 'not blue', 'red', 'blue or green', 'blueish', 'dark blue color',
            'blue?', 'It is not blue', 'Blue, red', 'no blue', 'blu', 'the blue bar and the red bar',
        ],
    ),
    (
        'Saudi Arabia',
        [
            'Saudi Arabia', 'saudi arabia.', 'The answer is Saudi Arabia.', 'It is Saudi Arabia.',
            'The country is Saudi Arabia.', '**Saudi Arabia**',
        ],
        [
            'Arabia', 'Saudi', 'not Saudi Arabia', 'Saudi Arabia or Iran', 'Saudi Arabia and Iran', 'Iran',
        ],
    ),
    (
        '2019-2020',
        [
            '2019-2020', '2019–2020', 'The answer is 2019-2020.',
        ],
        [
            '2019', '2020', '2018-2020',
        ],
    ),
    (
        '1:2',
        [
            '1:2', 'The ratio is 1:2.',
        ],
        [
            '2:1', '0.5', '12',
        ],
    ),
    ("45", ["forty-five", "45 years old", "45岁", "45."], ["45%", "forty or five", "45/2", "45 million", "4 5"]),
    ("8.5", ["approx. 8.5", "£8.5", "8.5 m/s", "The bar shows 8.5", "Germany: 8.5", "{8.5}", "约为8.5"], ["8.5 ± 1", "√8.5", "8.5²", "2*8.5", "12.5 is wrong", "8.5 dozen"]),
    ("12.5", [], ["1250%", "12.5%"]),
    ("2,500", ["2.5k", "2 500", "two thousand five hundred"], ["2,5", "2,500-3,000", "2.5 million", "250"]),
    ("-0.4", ["−0.4", "minus 0.4", "-40%"], ["0.4", "40%", "-4"]),
    ("United States", ["The United States", "The country is the United States"], ["United", "United Kingdom", "not the United States"]),
]  # fmt: skip


@pytest.mark.parametrize(("truth", "equal", "others"), CASES)
def test_answers_to_a_chart(truth: str, equal: list[str], others: list[str]) -> None:
    answer = {"value": truth}
    assert {text: relaxed_numeric_reward(text, answer) for text in equal} == dict.fromkeys(equal, 1.0)
    assert {text: relaxed_numeric_reward(text, answer) for text in others} == dict.fromkeys(others, 0.0)
