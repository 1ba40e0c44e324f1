video=$(curl -s localhost:8000/v1/files -H "Authorization: Bearer none" -F purpose=user_data -F file=@clip.mp4 \
  | grep -o '"id": *"[^"]*"' | head -1 | cut -d '"' -f 4)
curl -s localhost:8000/v1/chat/completions -H "Authorization: Bearer none" -H 'content-type: application/json' -d '{
  "model": "embedded", "video": "'$video'",
  "messages": [{"role": "user", "content": "does the circle appear or disappear?"}]}'
