"""dlintro: train, compare and understand image classifiers with PyTorch Lightning and Hydra."""
