"""Training stages: unsupervised pre-training by rules, supervised fine-tuning, checkpoints and run folders."""
