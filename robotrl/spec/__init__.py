"""What a robot and a policy are: plain records, read strictly, with units in every name."""
