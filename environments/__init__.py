"""Episodes of several turns: the policy calls tools or talks to an environment, and what comes back joins its context.

calls.py         calls as the policy writes them, in both formats in use
tools.py         plain functions as tools; builtins.py: zoom, rotate, frames
dialogue.py      how observations are worded, for rollouts and for the dialogues of a cold start alike
tool_use.py      the environment of a set of tools
plugin.py        a user's own environment; workers.py: processes that are killed when a call hangs
episodes.py      plays episodes on any rollout engine, continuously
"""
