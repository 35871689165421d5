#!/bin/sh
# Scores candidates by REST: sh curl.sh HOST:PORT MODEL REQUEST.json
curl --silent --show-error --fail-with-body --max-time 2 --header 'Content-Type: application/json' \
  --data-binary "@$3" "http://$1/v1/models/$2/labels/stable:predict"
