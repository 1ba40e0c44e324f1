cat > "$(dirname "$(llm logs path)")/extra-openai-models.yaml" <<'MODELS'
- model_id: btchat
  model_name: embedded
  api_base: http://localhost:8000/v1
  api_key_name: btchat
  vision: true
  supports_schema: true
MODELS
llm keys set btchat --value none

# it sends pictures alone, so that the video is called one; the server looks at its first bytes
llm -m btchat --no-stream --at clip.mp4 image/gif "does the circle appear or disappear?"
llm logs -n 1 --json | grep -A 9 timestamps
