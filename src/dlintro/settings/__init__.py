"""The words of a command, and the settings that they make. Nothing here imports torch, and Hydra only to compose."""
