"""Print under which names the cache of the client itself stores the responses to queries."""

import json
import sys

from oda_api.api import DispatcherAPI

names = []
for query in json.loads(sys.argv[2]):
    api = DispatcherAPI(url=sys.argv[1], instrument="mock", use_local_cache=True)
    api.parameters_dict = query
    names.append(api.unique_response_json_fn.name)
print(json.dumps(names))
