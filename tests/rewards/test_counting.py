"""Counts: the one number that an answer states, in digits or words; anything else is no count."""

from __future__ import annotations

import pytest

from rewards.counting import counting_reward, read_count

THREE = [
    '3', '3.', 'three', 'Three', 'Three.', 'three ducks', 'There are three ducks.', 'I count three ducks.',
    'I see 3 ducks in the image.', 'The answer is 3', 'The answer is three.', 'Answer: 3', '**Answer:** 3',
    r'\boxed{3}', r'$\boxed{3}$', r'\boxed{\text{three}}', r'\boxed{3 \text{ ducks}}', '3 ducks',
    'three (3)', '3 (three)', 'There are 3 (three) ducks.', '3 in total', 'A total of 3',
    'A total of 3 ducks.', 'In total, there are 3 ducks.', 'Total: 3', 'total of three',
    '2 dogs and 1 duck, 3 in total', '2 + 1 = 3 ducks', '1+1+1=3', '1 + 1 + 1 = 3',
    'The total is 2 + 1 = 3.', '2 dogs + 1 duck = 3 animals', 'about 3', 'approximately 3', 'roughly three',
    'exactly 3', 'only 3', 'just three', '3 ducks are visible.', 'The number of ducks is 3.',
    'The count is 3', 'number: 3', 'count: 3', 'Count = 3', '{"answer": 3}', '{"answer": "3"}',
    '{"number": 3}', '```json\n{"count": 3}\n```', '`3`', '3!', '共三只', '一共3个', '图中有3只鸭。', '有三个', '三只',
    '三只鸭', '共有3只', '总共3个', '答案：3', '答案是3', '答案是三。', '3个', '3只', '数量为3', '3，', '３。', '（3）', '[3]',
    '<answer>3</answer>', '<answer>three</answer>', '3.0', '03', '+3', '= 3', '=3', ': 3', '- 3 ducks',
    '3, because I see a white one, a black one and a grey one', 'There are 3 ducks because one is hidden.',
    '3 ducks, not 4', 'not 4 but 3', 'There are not 4 ducks, there are 3.', 'It is 3.', "It's 3",
    'I think there are 3 ducks.', 'So the answer is 3.', 'Therefore, there are three ducks.', '3 objects',
    '3 people', '3 red cubes', 'three of them', '3/3 ducks', '3 ducks (not 4)',
    'In image 2 there are 3 ducks.', '3 pcs', '≈ 3', '~ 3', 'x 3', '#3', 'all 3', 'all three',
    'The three ducks', '3 birds in the sky',
]  # fmt: skip
NOT_THREE = [
    '4', 'four', '3 or more', '3+', '>3', '> 3', '>=3', '≥3', '≥ 3', '<3', '≤3', '≠3', '!=3', 'at most 3',
    'up to 3', 'under 3', 'nearly 3', 'almost 3', 'below 3', 'above 3', '3 to 5', '3~4', '3–4', '3 - 4',
    'between 3 and 5', 'from 3 to 5', 'either 3 or 4', '3 and 4', '3, 4', '3; 4', '3 4', 'maybe 3', '3?',
    '3 maybe', 'perhaps three', 'possibly 3', 'could be 3', "isn't 3", "There aren't 3",
    'There are not three ducks', 'not three', "It isn't 3.", '不是3', '不是三', '3个以上', '至少3', '至少三个', '超过3个',
    '不到3个', '第3', '第三个', '3.5', '3,5', '1/3', '-3', 'minus 3', 'negative three', '−3', '3 hundred',
    'three hundred', '3 thousand', '3k', 'three dozen', 'a dozen', '33', '13', 'thirty', 'thirteen',
    '33 ducks', 'twenty-three', 'twenty three', '三十', '十三', '三十三', '三百', '三千', '三万', '3万', '30%',
    '3 percent', '3 %', 'three percent', 'one third', 'a third', '3rd duck', 'the third', 'three-quarters',
    '3 quarters', 'three halves', '3 times', '3 per row', 'three each', '3 in each row',
    '3 on the left and 3 on the right', 'three on the left, three on the right', '3 left, 3 right',
    'page 3', 'Figure 3', 'option 3', 'No. 3', 'number three', 'question 3', 'step 3', 'room 3', '3D', '3a',
    'a3', '3.1', '2.9', '1e3', '3e1', '3^2', '3²', '2^3', '3:1', '3:00', '3-1', '1-3', '123', '0.3', 'many',
    'several', 'a few', 'some', "I don't know", 'none', 'no', '0', '3 of 5', 'three out of four',
    '3 of the 5', '3/5', 'one or three', '1 of 3', '3 out of 5', 'one, two, three', '1, 2 and 3',
    '1. 2. 3.', '1 2 3', '1,2,3', 'half of 3', 'twice 3', 'more than three', 'fewer than three',
    'at least three', 'less than three', 'over three', 'no more than 3', 'no fewer than 3', '3 minus 1',
    '3-ish', 'three point five', '3 and a half', '三个半', '三点五', '三分之一', '三四个', '十几个', '三倍',
    r'\boxed{2} or \boxed{3}', r'\boxed{3}, \boxed{4}', r'\boxed{2}\boxed{3}', r'\boxed{3+}', '2 + 2 = 3',
    '5 = 3', '{"count": [3, 4]}', '{"count": 4}', '3 dogs and 2 ducks', 'two or three',
    'There are 3 or 4 ducks.', 'The answer is not 3.', 'The answer is 3 or 4', 'more than 2',
    'exactly 3 or exactly 4',
]  # fmt: skip
OTHERS: list[tuple[int, list[str], list[str]]] = [
    # true count, stated, not stated
    (
        0,
        [
            '0', 'zero', 'Zero.', 'no ducks', 'None', 'none.', 'There are zero ducks.', 'There are 0 ducks',
            'none of them', 'No ducks are visible.', 'I see no ducks', 'I see no ducks.',
            "There aren't any ducks", "There isn't any", 'Nothing is there', 'not any', '没有', '没有鸭',
            '图中没有鸭。', '零', '零个', '0个', '无', "I don't see any ducks", 'There are no ducks in the image.',
            'The answer is 0', 'The answer is zero.', r'\boxed{0}', 'No ducks can be seen.',
            'There is no duck.', 'There are none', 'zero ducks', 'The image shows no ducks.', 'No one',
            'nobody',
        ],
        [
            'many', 'some', 'no idea', 'No, 3', 'I do not know', 'no more than 3', 'Not sure', 'no answer',
            'unknown', 'No.', 'no', 'one', 'not zero', 'not 0', 'No. 0', 'No, there are 2.', 'no way', '10',
            'nothing but 3 ducks', 'There are not many', 'ducks', 'a duck', 'null', 'N/A',
            'There is no doubt there are many', 'No ducks but 2 dogs', '不知道', '没有答案',
        ],
    ),
    (
        1,
        [
            '1', 'one', 'One.', 'one duck', 'a single duck', 'There is one duck.', 'There is 1 duck',
            'only one', 'Only one duck', 'just one', 'There is only one.', '一', '一个', '一只鸭', '有一只',
            r'\boxed{1}', 'There is a single duck.', 'exactly one', 'the only one',
        ],
        [
            'no one', 'No one is there', 'nobody', 'someone', 'anyone', 'one or two', 'one and one', 'none',
            'not one', 'not a single one', 'more than one', 'at least one', 'one each', '11', 'twenty-one',
            'one dozen', 'one thousand', 'one hundred and one', 'one third', 'one-way', '1 of 2',
            'one by one', 'the first one', 'no one there', 'one on each side', 'every one',
            'one is black and one is white', 'another one', '一些', '一共', '一半', '第一', '十一', 'one in three',
            'not even one',
        ],
    ),
    (
        21,
        [
            '21', 'twenty-one', 'twenty one', 'Twenty-one ducks', '二十一', '21 ducks', '二十一个',
        ],
        [
            '20', '1', 'twenty', '20 1', '20, 1', 'twenty, one', 'twenty or one',
        ],
    ),
    (
        100,
        [
            '100', 'one hundred', 'a hundred', 'a hundred ducks', '一百', '1 hundred',
        ],
        [
            '1', 'one', 'hundreds', 'a hundred and five', '10', '1000', 'more than a hundred',
            'over a hundred',
        ],
    ),
    (
        12,
        [
            '12', 'twelve', 'a dozen', 'one dozen', '十二', '1 dozen',
        ],
        [
            'dozens', '2', 'two', 'half a dozen', 'two dozen', '10',
        ],
    ),
    (
        1234,
        [
            '1234', '1,234', '1 234', '1234.', 'one thousand two hundred thirty-four', '1,234 people',
            '1 234 people', '1.234e3', '1{,}234',
        ],
        [
            '1.234', '234', '1', '12,34', '1, 234', '1 2 3 4', '12 34',
        ],
    ),
    (
        105,
        [
            '105', 'one hundred and five', 'a hundred and five', 'one hundred five', '一百零五',
        ],
        [
            '100', '5', '100 5', '100 and 5', '一百五',
        ],
    ),
    (
        1000,
        [
            '1000', '1,000', 'a thousand', 'one thousand', '1k', '一千', '1 thousand', '10 hundred',
        ],
        [
            '1', 'thousands', '100',
        ],
    ),
    (
        42,
        [
            '42', 'forty-two', 'First there were 20, then 22 more: 42 in all.', '6 × 7 = 42',
            'There are 6 rows of 7, so 42 in total.', '四十二', '6*7=42', '6 rows of 7 = 42',
        ],
        [
            '6, 7', '41 (not 42)', '4', '2', '6 x 7 = 41',
        ],
    ),
]  # fmt: skip


@pytest.mark.parametrize("text", THREE)
def test_three_is_read(text: str) -> None:
    assert read_count(text) == 3


@pytest.mark.parametrize("text", NOT_THREE)
def test_what_does_not_state_three_earns_nothing(text: str) -> None:
    assert counting_reward(text, {"value": 3}) == 0.0


@pytest.mark.parametrize(("count", "stated", "not_stated"), OTHERS)
def test_other_counts(count: int, stated: list[str], not_stated: list[str]) -> None:
    answer = {"value": count}
    assert {text: counting_reward(text, answer) for text in stated} == dict.fromkeys(stated, 1.0)
    assert {text: counting_reward(text, answer) for text in not_stated} == dict.fromkeys(not_stated, 0.0)
