"""What a deployable folder holds beside the model: a script, a container, configurations of servers, and words."""
