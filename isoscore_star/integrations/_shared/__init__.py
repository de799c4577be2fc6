"""What all integrations do alike: make a penalty, save and load its state, join calls, and forgive where λ is 0."""
