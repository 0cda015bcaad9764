"""Options from the command line, the environment and the configuration file, in this order of precedence.

No other package reads `ODA_PROXY_*` variables.

Begin with `options.py`, where all options are; `sources.py` finds their values.
"""
