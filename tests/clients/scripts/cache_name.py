"""Print under which name the client's own cache keeps the answers to questions."""

import json
import sys

from oda_api.api import DispatcherAPI

names = []
for question in json.loads(sys.argv[2]):
    api = DispatcherAPI(url=sys.argv[1], instrument="mock", use_local_cache=True)
    api.parameters_dict = question
    names.append(api.unique_response_json_fn.name)
print(json.dumps(names))
