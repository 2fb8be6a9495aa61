"""Runs LangChain's ChatOpenAI against the service; prints what it had as one JSON object."""

import json
import sys
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI


def main(url: str, token: str) -> dict[str, Any]:
    options: dict[str, Any] = {
        "base_url": f"{url}/v1",
        "api_key": token,
        "model": "m",
        "use_responses_api": True,
        "max_retries": 0,
    }
    chat = ChatOpenAI(**options)
    said: dict[str, Any] = {}

    first = chat.invoke([SystemMessage("Be brief."), HumanMessage("One")])
    said["invoke"] = first.text
    said["usage"] = first.usage_metadata
    history = [HumanMessage("One"), first, HumanMessage("Two")]
    said["history"] = chat.invoke(history).text
    said["other_history"] = chat.invoke(
        [HumanMessage("One"), AIMessage(first.text), HumanMessage("Two")]
    ).text
    chained = chat.invoke("Three", previous_response_id=first.response_metadata["id"])
    said["chained"] = chained.text

    pieces = list(chat.stream("Four"))
    said["stream"] = [piece.text for piece in pieces if piece.text]
    whole = pieces[0]
    for piece in pieces[1:]:
        whole += piece
    said["after_stream"] = chat.invoke([HumanMessage("Four"), whole, HumanMessage("Five")]).text

    remembering = ChatOpenAI(
        **options,
        use_previous_response_id=True,
        output_version="responses/v1",
        temperature=0.5,
        max_tokens=64,
        include=["reasoning.encrypted_content"],
        truncation="auto",
        store=True,
        reasoning={"effort": "low", "summary": "auto"},
    )
    earlier: list[Any] = [HumanMessage("Six")]
    earlier += [remembering.invoke(earlier), HumanMessage("Seven")]
    said["remembered"] = remembering.invoke(earlier).text
    said["v1"] = ChatOpenAI(**options, output_version="v1").invoke("Eight").content_blocks
    return said


print(json.dumps(main(*sys.argv[1:])))
