"""Readers of public file formats, by name."""

from __future__ import annotations

from data_recipes.readers import (
    alpaca,
    android_control,
    boxes_json,
    coco,
    easyr1,
    gui,
    gui_actions,
    helpsteer,
    html_pages,
    interleaved,
    llamafactory_v1,
    llava,
    llava_cot,
    math_sets,
    ms_swift,
    open_images,
    os_atlas,
    pdf_pages,
    preference_sets,
    preferences,
    r1v,
    refcoco,
    rows,
    search,
    sharegpt,
    tabmwp,
    temporal,
    video_sets,
    voc,
    vstar,
    webdataset,
)
from data_recipes.records import Format
from data_recipes.synthetic import worlds

_QUESTIONS = (
    llava_cot,
    video_sets,
    tabmwp,
    math_sets,
    search,
    vstar,
    r1v,
    easyr1,
    sharegpt,
    llamafactory_v1,
    llava,
    ms_swift,
    alpaca,
)
_PREFERENCES = (preference_sets, helpsteer, preferences)
MODULES = (
    rows,
    coco,
    open_images,
    voc,
    refcoco,
    boxes_json,
    gui,
    gui_actions,
    android_control,
    os_atlas,
    temporal,
    *_PREFERENCES,
    *_QUESTIONS,
    html_pages,
    pdf_pages,
    interleaved,
    webdataset,
    worlds,
)
FORMATS: dict[str, Format] = {f.name: f for module in MODULES for f in module.FORMATS}
