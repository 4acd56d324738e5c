"""What every program stands on: run folders, checkpoints, locks, signals, paths. Imports nothing else of this project.

Importing it prepares the process for torch and the packages around it, once and without importing them. `vlm` and
`engines` ask for the same, for modules that import transformers or vLLM before anything from here.
"""

from core.processes.threads import spin_briefly
from core.torch_companions import adapt_torch_companions

spin_briefly()
adapt_torch_companions()
