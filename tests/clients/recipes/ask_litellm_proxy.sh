cat > config.yaml <<'CONFIG'
model_list:
  - model_name: video
    litellm_params:
      model: openai/embedded # hosted_vllm/ loses the receipt of a stream
      api_base: http://localhost:8000/v1
      api_key: none
files_settings: # /v1/files and /v1/batches
  - custom_llm_provider: openai
    api_base: http://localhost:8000/v1
    api_key: none
CONFIG
export LITELLM_MASTER_KEY="sk-$(openssl rand -hex 32)" # which its clients send
litellm --config config.yaml --host 127.0.0.1 --port 4000 > litellm.log 2>&1 &
trap "kill $!" EXIT
curl -s --retry 60 --retry-delay 1 --retry-connrefused localhost:4000/health/liveliness

key="Authorization: Bearer $LITELLM_MASTER_KEY"
video=$(curl -s localhost:4000/v1/files -H "$key" -F purpose=user_data -F file=@clip.mp4 \
  | grep -o '"id": *"[^"]*"' | head -1 | cut -d '"' -f 4)
curl -s localhost:4000/v1/chat/completions -H "$key" -H 'content-type: application/json' -d '{
  "model": "video", "video": "'$video'",
  "messages": [{"role": "user", "content": "does the circle appear or disappear?"}]}'
