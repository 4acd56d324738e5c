"""Slips: a trace that was given its answer or saw no image says so in many ways, and honest ones come near them."""

from __future__ import annotations

import pytest

from data_recipes.operations.slips import denies_media, tells_given_answer, tells_given_caption

GIVEN = [
    "The given answer is 9, so the side is 3.",
    "According to the reference answer, it is 24.",
    "The standard answer says C.",
    "Since we are told the answer is 7, there are seven boats.",
    "As we already know the answer is 11, the count must be 11.",
    "I was given the answer 42 and work towards it.",
    "Given that the correct answer is 5, one dog is hidden.",
    "This fits the answer that was provided.",
    "The answer was given in advance as 8.",
    "The prompt states that the answer is 9.",
    "Working backwards from the answer, r = 2.",
    "The answer key has 18.",
    "Consistent with the answer provided, the ratio is 2:3.",
    "I reason as if I did not know the answer.",
    "The ground truth is 14.",
    "The user has told us the answer, 21.",
    "According to the provided solution, it is 12.",
    "Since the correct answer is known to be B, A is wrong.",
    "My answer agrees with the one given.",
    "But the answer says 12, so I look again.",
    "The provided solution claims that x = 3, and so the answer must be 3.",
    "As specified in the correct answer, there are three.",
    "The correct answer, as given, is 12.",
    "We need the answer of 15 that was provided.",
    "This is the annotated answer, B.",
    "Since the solution is known to be 12, we only verify it.",
    "因为答案是已知的，只需验证。",
    "标准答案是5，所以选B。",
    "根据给出的答案，面积为24。",
    "既然知道答案是7，圆有七个。",
    "题目已经给出了答案。",
    "这与参考答案一致。",
    "按照标准解答，结果为3。",
    "标答是12，所以重新计算。",
    "答案告诉我们是12。",
    "根据答案，应选B。",
    "对照答案，结果正确。",
    "用户已经提供了答案5。",
]
HONEST = [
    "The given information says that AB = 5, so the answer is 10.",
    "The answer is 12.",
    "The correct answer is (B).",
    "The answer is given by the formula A = bh/2.",
    "Of the given answer choices, only C fits.",
    "The answer should be given in square metres.",
    "Given that the answer must be whole, round up.",
    "We are told that Tom has 5 apples, and the answer is 4.",
    "Now we know the sum, and the answer is 12.",
    "The standard deviation is 2.",
    "The chemist takes the standard solution; the answer is 3 ml.",
    'A note reads "the reference answer" on its first page.',
    "The equation's solution is known to be unique, so the answer is 4.",
    "As stated in the answer choices, there are four.",
    "The scale is labelled; the answer is 4 kg.",
    "正确答案是B。",
    "根据答案选项，最接近的是B。",
    "题目提供的答案选项中没有负数。",
    "解答：由题意得x=3，故答案为3。",
    "最后给出答案：5。",
    "在给出的答案选项中，C符合。",
]
BLIND = [
    "I cannot see any image.",
    "I'm unable to view the picture.",
    "No image was provided, so I assume a triangle.",
    "As a text-based model, I cannot look at it.",
    "There is no image attached to your message.",
    "You have not included a picture.",
    "The image did not load.",
    "Without the chart provided, it is not possible to tell.",
    "The question does not provide a diagram.",
    "Please upload the image again.",
    "Please provide the necessary details.",
    "Sorry, I can't help with images of people yet.",
    "I apologize, but I do not have enough information.",
    "As an AI language model, I have no eyes.",
    "Images are not supported here.",
    "I see no image.",
    "I lack the ability to view or analyze pictures.",
    "The photo you sent is not visible.",
    "Image not available.",
    "No visual information was provided.",
    "抱歉，我无法看到图片。",
    "您没有提供图片。",
    "作为一个文本模型，我只能猜。",
    "图片无法显示。",
]
SEEING = [
    "I cannot see any people in the image.",
    "I can't see any picture on the wall.",
    "There is no image on the left page, only text.",
    "The figure is not drawn to scale.",
    "The diagram does not show the value of x.",
    "No figure is larger than the blue square.",
    "The man cannot see the picture behind him.",
    "We cannot read the graph exactly, so we estimate 45.",
    "The image is not blurry.",
    "The image you sent is not a food web.",
    "I see no images of cats, only dogs.",
    "There is no green bus in the image.",
    'The screen says "No image was provided".',
    "The sign asks visitors to upload a photo.",
    "The video does not show who opened the door.",
    "图中看不到任何人。",
    "这张图片没有显示价格。",
    "题目没有给出图中角的度数。",
]


@pytest.mark.parametrize("text", GIVEN)
def test_a_given_answer_is_noticed(text):
    assert tells_given_answer("First the table is read.\n" + text + " Then the rest follows.") is not None


@pytest.mark.parametrize("text", HONEST)
def test_answers_that_were_found_are_not(text):
    assert tells_given_answer(text) is None


def test_where_the_question_speaks_of_an_answer_the_solution_may():
    text = "The given answer is wrong, as 3 times 4 is 12."
    assert tells_given_answer(text, "What is 3 times 4?") is not None
    assert tells_given_answer(text, "Ben's answer is 14. Is the given answer right?") is None


@pytest.mark.parametrize("text", BLIND)
def test_a_model_that_saw_nothing_or_refuses_is_noticed(text):
    assert denies_media("Let me see.\n" + text) is not None


@pytest.mark.parametrize("text", SEEING)
def test_what_is_not_in_the_picture_may_be_said(text):
    assert denies_media(text) is None


def test_a_caption_that_speaks_of_the_one_before_it_is_noticed():
    assert tells_given_caption("Unlike the present caption says, the bus is red.") == "the present caption"
    assert tells_given_caption("The caption on the poster reads: summer sale.") is None


@pytest.mark.parametrize(
    "text",
    [
        "I ",
        "the answer ",
        "no image ",
        "given the ",
        "无法",
        "答案",
        "the correct right final ",
        '"',
        "sorry ",
        "the image was not ",
    ],
)
def test_long_texts_come_to_an_end(text):
    for check in (tells_given_answer, denies_media, tells_given_caption):
        check(text * (100_000 // len(text)))
