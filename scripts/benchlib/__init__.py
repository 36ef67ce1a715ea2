"""The bench: rows of figures against targets and against public tools, measured in the same run.

One module holds a group of rows; `GROUPS` in `__main__` names them.  A group is a function from `Setting` to rows.
"""
