"""The structs inside Ollama's requests: the fields that it reads, with their types.

The outermost ones are `Shape`s beside their handlers. A field that is not listed has the type
`any`.
"""

from __future__ import annotations

from collections.abc import Mapping

MAP = "map[string]interface {}"
"""The type of a field whose own keys belong to no struct: they count as spelt."""
_TEXTS = ("role", "content", "thinking", "tool_name", "tool_call_id")

STRUCTS: Mapping[str, Mapping[str, str]] = {
    "api.Alias": dict.fromkeys(_TEXTS, "string")
    | {"images": "[]api.ImageData", "tool_calls": "[]api.ToolCall"},
    "api.ToolCall": {"id": "string", "function": "api.ToolCallFunction"},
    "api.ToolCallFunction": {
        "index": "int",
        "name": "string",
        "arguments": "api.ToolCallFunctionArguments",
    },
    "api.Tool": {"type": "string", "function": "api.ToolFunction"},
    "api.ToolFunction": {
        "name": "string",
        "description": "string",
        "parameters": "api.ToolFunctionParameters",
    },
    "api.ToolFunctionParameters": {
        "type": "string",
        "required": "[]string",
        "properties": "api.ToolPropertiesMap",
    },
    "openai.Message": {
        "role": "string",
        "reasoning": "string",
        "name": "string",
        "tool_call_id": "string",
        "tool_calls": "[]openai.ToolCall",
    },
    "openai.ToolCall": {
        "id": "string",
        "index": "int",
        "type": "string",
        "function": "openai.Function",
    },
    "openai.Function": {"name": "string", "arguments": "string"},
    "openai.StreamOptions": {"include_usage": "bool"},
    "openai.Reasoning": {"effort": "string"},
    "openai.ResponseFormat": {"type": "string", "json_schema": "openai.JsonSchema"},
    "openai.JsonSchema": {},
    "openai.ResponsesReasoning": dict.fromkeys(("effort", "generate_summary", "summary"), "string"),
    "openai.ResponsesText": {"format": "openai.ResponsesTextFormat"},
    "openai.ResponsesTextFormat": {"type": "string", "name": "string", "strict": "bool"},
    "openai.ResponsesTool": {
        "type": "string",
        "name": "string",
        "description": "string",
        "strict": "bool",
        "parameters": MAP,
        "tools": "[]openai.ResponsesTool",
    },
    "openai.ResponsesItem": {"type": "string", "role": "string"},
    "openai.ResponsesInputMessage": {"type": "string", "role": "string"},
    "openai.ResponsesContent": dict.fromkeys(
        ("type", "text", "detail", "image_url", "file_id", "file_data", "file_url", "filename"),
        "string",
    ),
    "openai.ResponsesFunctionCall": dict.fromkeys(
        ("id", "type", "call_id", "name", "arguments"), "string"
    ),
    "openai.ResponsesFunctionCallOutput": {"type": "string", "call_id": "string"},
    "openai.ResponsesReasoningInput": {
        "id": "string",
        "type": "string",
        "summary": "[]openai.ResponsesReasoningSummary",
        "encrypted_content": "string",
    },
    "openai.ResponsesReasoningSummary": {"type": "string", "text": "string"},
    "openai.ResponsesWebSearchCall": {"id": "string", "type": "string", "status": "string"},
    "anthropic.ContentBlock": dict.fromkeys(
        ("type", "text", "id", "name", "tool_use_id", "thinking", "signature"), "string"
    )
    | {
        "source": "anthropic.ImageSource",
        "input": "api.ToolCallFunctionArguments",
        "is_error": "bool",
    },
    "anthropic.ImageSource": dict.fromkeys(("type", "media_type", "data", "url"), "string"),
    "anthropic.Tool": {
        "type": "string",
        "name": "string",
        "description": "string",
        "max_uses": "int",
    },
    "anthropic.ToolChoice": {
        "type": "string",
        "name": "string",
        "disable_parallel_tool_use": "bool",
    },
    "anthropic.ThinkingConfig": {"type": "string", "budget_tokens": "int"},
    "anthropic.Metadata": {"user_id": "string"},
    "anthropic.OutputConfig": {"effort": "string"},
}
