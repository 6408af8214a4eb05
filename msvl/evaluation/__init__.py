"""Judgement of a checkpoint: tasks, metrics, intervals, tables and the report page."""
