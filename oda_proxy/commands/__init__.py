"""The commands of `oda-proxy`, other than the servers.

Modules named `*_arguments` declare commands and their arguments for the parser, and import nothing heavy. The others
run a command and print its result. Servers are built in `oda_proxy.servers`.

Begin with `oda_proxy.cli`, then `store_arguments.py`.
"""
