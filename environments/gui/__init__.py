"""Screens in a real browser: a headless Chromium without network, on pages of our own.

chromium.py      the browser as a child process, driven over a pipe (Chrome DevTools Protocol)
screen.py        a page shown in it: its screenshot, and its elements with box, role, name and state from the DOM; probe.js
control.py       carries out an action with the mouse and the keyboard; behaviour.js
environment.py   the browser as an environment of several turns
"""
