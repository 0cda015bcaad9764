"""What a person does on the command line.

Modules named `*_arguments` add commands to the parser and import nothing heavy; the others do the work. Servers are
put together in `oda_proxy.servers`.

Begin with `oda_proxy.cli`, then `store_arguments.py`.
"""
