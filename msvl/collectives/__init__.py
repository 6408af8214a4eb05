"""Every collective operation of the project; nobody outside this folder calls torch.distributed."""
