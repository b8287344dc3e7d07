"""One thin training loop, plain PyTorch on Hugging Face Accelerate, and what it is told: a recipe, examples, an objective."""
