"""Counts: the one number that an answer states, in digits or words; anything else is no count."""

from __future__ import annotations

import pytest

from rewards.functions.counting import counting_reward, read_count

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
    'The three ducks', '3 birds in the sky', 'three (3) ducks', 'count=3', 'Total = 3', 'total: 3', '一共三只',
    'THREE', 'circa 3', 'There are 3 ducks!', '3 visible ducks', 'I can count 3', 'I counted three.',
    'We have 3', '3 in all', 'In all 3', 'in all, 3 ducks', 'altogether 3', '3 altogether', 'overall 3',
    'sum: 3', 'Sum = 3', '1 + 2 = 3', '1+2=3', '2 ducks + 1 dog = 3', 'so 3', 'So, 3.', 'thus 3', 'hence 3',
    '= 3 ducks', '3 ✓', '3 ✅', '3 (three ducks)', '**three**', '*3*', "'3'", '<b>3</b>',
    '<answer> 3 </answer>', r'\text{3}', r'\mathbf{3}', r'\(3\)', r'\[3\]', r'\boxed{\mathbf{3}}',
    r'\boxed{3}.', r'$\boxed{3}$ ducks', r'3\text{ ducks}', '$3$ ducks', 'The image shows 3 ducks.',
    'You can see 3 ducks', 'It contains 3 ducks', 'The picture contains three ducks.',
    '3 ducks can be seen', '3 are black', 'Exactly three.', 'precisely 3', 'a total of three ducks',
    "there're 3", 'there is a total of 3', 'The correct count is 3', 'Number of ducks: 3', '# of ducks: 3',
    'ducks: 3', 'ducks = 3', 'n = 3', 'N=3', 'x = 3', '总数是3', '总共有三个', '数量：3', '有3个苹果', '三个苹果', '3 个',
    '答：3', '答：共3只。', '3头', '3 只。', '大约3个', '约3',
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
    'exactly 3 or exactly 4', '3ish', '3±1', '3 ± 1', '3 +/- 1', '±3', '3 or 3.5', '③', 'Ⅲ', 'III', 'tree',
    'threes', '6/2', '9/3', '√9', '1 + 2', '2^2-1', '3 x 1', 'three or so?', '2.999', '3.01', '3;5',
    '3 and 2', '3 ducks and 2 dogs', '3 vs 4', 'page three', '3rd', 'three-fold', 'threefold', '3-fold',
    'thrice', '3 of 10', '3 out of 10', 'out of 3', '1 in 3', '3 groups of 2', '3 or', '3 / 4', '3 ÷ 1',
    '3:2', '3-2=1', '3 = 2', '3!=6', '> 2', '>2', '2 < x < 4', '3 < x', 'x<3', 'x > 3', '≥3 ducks',
    '3 or less', '3 or fewer', 'fewer than or equal to 3', 'no less than 3', 'not more than 3',
    'not fewer than 3', 'not exactly 3', 'not quite 3', 'hardly 3', 'barely 3', 'close to 3', 'nearer 3',
    "it isn't three", 'never 3', "3 isn't right", '3 is wrong', '3 is not correct', '3 is too many', '33%',
    '.3', '3e2', 'three-hundred', '3,000', '3.000,5', "3'000", '000003x', '1st, 2nd, 3rd', '2 or 3',
    '3, maybe 4', '3 maybe 4', 'probably 3 or 4', 'around 3-4', 'about 3 to 4', '3 ~ 4', '3...4', '3..4',
    'three four', '三或四', '三四', '三到四', '大于3', '小于3', '超过三只', '三分之二', '3分之1', '3成',
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
            'nobody', 'none at all', 'I see none', 'There is nothing', 'no duck', 'not a single duck',
            "there isn't a duck", 'No duck is visible', '零只', '0 ducks',
            'There are no ducks in the picture.', 'no, there are none', 'None visible',
            'There are no ducks present.', 'No visible ducks', '没有。', 'There are zero.', '0.', 'zero!',
            "There're no ducks", 'none are visible', 'There is no one', 'no ducks here',
            'Zero ducks are shown', 'not one', 'None of the ducks', 'The answer is none',
            'The count is zero', 'I count zero', 'There are 0.', '画面中没有鸭', '一只也没有', '一个都没有', '0只',
        ],
        [
            'many', 'some', 'no idea', 'No, 3', 'I do not know', 'no more than 3', 'Not sure', 'no answer',
            'unknown', 'No.', 'no', 'one', 'not zero', 'not 0', 'No. 0', 'No, there are 2.', 'no way', '10',
            'nothing but 3 ducks', 'There are not many', 'ducks', 'a duck', 'null', 'N/A',
            'There is no doubt there are many', 'No ducks but 2 dogs', '不知道', '没有答案', "I can't see",
            'cannot tell', 'unclear', 'not visible enough', 'no comment', 'no more', 'no less than 1',
            'No, 1', 'nope', 'not applicable', 'unknown number', 'no number', 'nothing special, 2 ducks',
            'none but 1', 'no fewer than 3', 'empty', 'a lot', 'no dogs but 2 ducks', 'non-zero', '0 or 1',
            '0-1', '00x', '0%?', '-1', '.', '?',
        ],
    ),
    (
        1,
        [
            '1', 'one', 'One.', 'one duck', 'a single duck', 'There is one duck.', 'There is 1 duck',
            'only one', 'Only one duck', 'just one', 'There is only one.', '一', '一个', '一只鸭', '有一只',
            r'\boxed{1}', 'There is a single duck.', 'exactly one', 'the only one', 'just the one',
            'Only 1', 'one only', '1 only', 'one alone', 'just a single one', 'exactly 1', 'one in total',
            'One in the middle', 'There is one on the left', "there's one", '一头', '仅一个', '只有一只',
        ],
        [
            'no one', 'No one is there', 'nobody', 'someone', 'anyone', 'one or two', 'one and one', 'none',
            'not one', 'not a single one', 'more than one', 'at least one', 'one each', '11', 'twenty-one',
            'one dozen', 'one thousand', 'one hundred and one', 'one third', 'one-way', '1 of 2',
            'one by one', 'the first one', 'no one there', 'one on each side', 'every one',
            'one is black and one is white', 'another one', '一些', '一共', '一半', '第一', '十一', 'one in three',
            'not even one', '1st', 'first', 'once', 'one or more', 'one too many', 'one-third',
            'number one', 'one of two', 'oneself', 'One?', 'one and a half', 'half', 'at most one',
            'one in ten', 'one here, one there', 'one left one right', 'each one', 'no-one', 'noone',
            'not one of them', 'one hundredth', 'one fourth', 'one quarter', 'one more', 'plus one',
            'one less', 'one to two', 'one-two', 'one, maybe two', 'one duck and one dog', 'one after one',
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
