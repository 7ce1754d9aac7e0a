"""What is wanted: tasks as frozen records of plain batched-torch functions."""
