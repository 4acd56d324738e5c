"""Screens drawn by a real browser from generated pages.

vocabulary.py    names, labels and texts of pages
content.py       what a page shows: fields, entries, menus, states
theme.py         how it looks; templates/ have the HTML and CSS
questions.py     what can be asked about a screen, with answers from the DOM
world.py         the format `synthetic_gui`
tasks.py         the format `synthetic_gui_tasks`: several steps, for the browser as an environment
"""
