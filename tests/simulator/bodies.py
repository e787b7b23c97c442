"""A full body for each route that reads one; tests spoil it place by place."""

from __future__ import annotations

from typing import Any

HI = {"role": "user", "content": "hi"}
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
CALL = {"id": "c", "function": {"index": 0, "name": "f", "arguments": {"a": 1}}}
OPENAI_CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": SCHEMA}}
NATIVE: dict[str, Any] = {
    "model": "agent",
    "stream": True,
    "format": SCHEMA,
    "options": {"num_predict": 2, "stop": ["x"], "use_mmap": True, "temperature": 0.5},
    "think": False,
    "keep_alive": "5m",
    "truncate": True,
    "shift": True,
    "logprobs": True,
    "top_logprobs": 1,
    "_debug_render_only": False,
}
DIGEST = f"sha256:{'a' * 64}"
BODIES: dict[str, dict[str, Any]] = {
    "/api/chat": NATIVE
    | {
        "messages": [
            HI | {"images": ["aGk="], "thinking": "t", "tool_name": "f", "tool_call_id": "c"},
            {"role": "assistant", "tool_calls": [CALL]},
        ],
        "tools": [TOOL],
    },
    "/api/generate": NATIVE
    | {
        "prompt": "hi",
        "suffix": "",
        "system": "s",
        "template": "{{ .Prompt }}",
        "context": [1],
        "raw": False,
        "images": ["aGk="],
    },
    "/api/embed": {
        "model": "agent",
        "input": ["a", "b"],
        "truncate": False,
        "dimensions": 2,
        "options": {"num_ctx": 9},
        "keep_alive": 5,
    },
    "/api/embeddings": {"model": "agent", "prompt": "a", "options": {}, "keep_alive": 5},
    "/v1/embeddings": {
        "model": "agent",
        "input": ["a"],
        "dimensions": 2,
        "encoding_format": "base64",
    },
    "/v1/chat/completions": {
        "model": "agent",
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "a"}]},
            {
                "role": "user",
                "content": [{"type": "image_url", "image_url": {"url": "data:;base64,aGk="}}],
            },
            {"role": "assistant", "reasoning": "r", "name": "n", "tool_calls": [OPENAI_CALL]},
            {"role": "tool", "tool_call_id": "c", "content": "x"},
            {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": ""}}]},
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 3,
        "seed": 1,
        "stop": ["x"],
        "temperature": 1,
        "frequency_penalty": 0,
        "response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}},
        "tools": [TOOL],
        "reasoning": {"effort": "low"},
        "reasoning_effort": "low",
        "logprobs": True,
        "top_logprobs": 1,
    },
    "/v1/completions": {
        "model": "agent",
        "prompt": "p",
        "suffix": "",
        "stream": False,
        "stream_options": {"include_usage": True},
        "max_tokens": 3,
        "logprobs": 1,
        "stop": "x",
    },
    "/v1/responses": {
        "model": "agent",
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "a"}]},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "o"},
            {"type": "reasoning", "summary": [{"type": "x", "text": "t"}]},
            {"type": "web_search_call", "id": "w"},
        ],
        "instructions": "i",
        "max_output_tokens": 3,
        "reasoning": {"effort": "low", "summary": "auto"},
        "text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}},
        "tools": [
            {"type": "function", "name": "f", "description": "d", "parameters": SCHEMA},
            {"type": "namespace", "name": "n", "tools": [{"type": "function", "name": "g"}]},
        ],
        "truncation": "auto",
        "include": ["x"],
        "background": False,
        "stream": True,
    },
    "/v1/messages": {
        "model": "agent",
        "max_tokens": 3,
        "system": [{"type": "text", "text": "s"}],
        "messages": [
            {"role": "user", "content": "hi"},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "t", "signature": "s"},
                    {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "image",
                        "source": {"type": "base64", "media_type": "image/png", "data": "aGk="},
                    },
                    {
                        "type": "tool_result",
                        "tool_use_id": "t",
                        "content": [
                            {"type": "text", "text": "r"},
                            {"type": "image", "source": {"type": "base64", "data": "aGk="}},
                        ],
                    },
                ],
            },
        ],
        "stop_sequences": ["x"],
        "tools": [{"name": "f", "description": "d", "input_schema": SCHEMA, "max_uses": 1}],
        "tool_choice": {"type": "auto", "name": "f"},
        "thinking": {"type": "enabled", "budget_tokens": 1},
        "metadata": {"user_id": "u"},
        "output_config": {"effort": "low"},
        "stream": True,
    },
    "/api/show": {"model": "agent", "name": "", "verbose": True, "options": {}, "system": "s"},
    "/api/pull": {"model": "far", "name": "", "stream": True, "insecure": False},
    "/api/push": {"model": "agent", "name": "", "stream": True, "insecure": False},
    "/api/create": {
        "model": "made",
        "from": "agent",
        "files": {"a.gguf": DIGEST},
        "adapters": {"a.gguf": DIGEST},
        "template": "{{ .Prompt }}",
        "system": "s",
        "license": ["l"],
        "parameters": {"stop": ["x"]},
        "messages": [HI],
        "quantize": "Q8_0",
        "stream": True,
    },
    "/api/copy": {"source": "agent", "destination": "other"},
    "/api/delete": {"model": "nobody", "name": "nobody"},
    "/api/me": {"a": 1},
    "/api/experimental/web_search": {"query": "q"},
}
"""A body for each route that reads one, with a value in every place."""
