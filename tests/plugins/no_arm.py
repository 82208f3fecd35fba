"""A plugin that forgot its ARM."""

NAME = "forgotten"
