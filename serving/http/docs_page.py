"""Documentation of the API: the OpenAPI document, and the page at /docs that shows it and can send each call.

The page is one file and loads nothing from a network.
"""

from collections.abc import Callable
from copy import deepcopy
from typing import Any, Final

from fastapi import FastAPI, Response
from pydantic import BaseModel

from serving.http.bodies import BODIES, PredictAnswer, PredictAnswers, TaskBodies, ref
from serving.http.messages import COMPARE_PATH, PREDICT_PATH, json_response
from serving.problems import documented

_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>Evergreen router</title><style>
:root{color-scheme:light dark;--line:#8884;--soft:#8881;--accent:#2e7d4f}
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.6rem;margin:0}h1+p{margin-top:.2rem;opacity:.75}
details{border:1px solid var(--line);border-radius:8px;margin:.6rem 0}
summary{cursor:pointer;padding:.6rem .8rem;display:flex;gap:.7rem;align-items:baseline}
summary b{font:700 12px/1 ui-monospace,monospace;color:#fff;background:var(--accent);
border-radius:4px;padding:.3rem .45rem}
summary code{font-size:14px}summary span{opacity:.75}
.body{padding:0 .8rem .8rem}textarea,input,pre{width:100%;box-sizing:border-box;font:13px/1.45 ui-monospace,monospace;
border:1px solid var(--line);border-radius:6px;padding:.5rem;background:var(--soft);color:inherit}
pre{overflow:auto;white-space:pre-wrap;overflow-wrap:anywhere}button{font:inherit;margin:.5rem 0;padding:.35rem .9rem;
border-radius:6px;border:0;background:var(--accent);color:#fff;cursor:pointer}table{border-collapse:collapse;font-size:14px}
td{padding:.1rem .8rem .1rem 0;vertical-align:top}label{font-size:13px;opacity:.8}
</style></head><body><h1 id="title">Evergreen router</h1><p id="about">Reading /openapi.json</p>
<label>Key or token, for routes that need one<input id="key" type="password" autocomplete="off"></label>
<main id="routes"></main><script>
const el=(tag,props={},...kids)=>{const e=Object.assign(document.createElement(tag),props);e.append(...kids);return e};
const show=v=>typeof v==="string"?v:JSON.stringify(v,null,2);
fetch("openapi.json").then(r=>r.json()).then(api=>{
 title.textContent=api.info.title+" "+api.info.version;about.textContent=api.info.description||"";
 for(const[path,methods]of Object.entries(api.paths))for(const[method,op]of Object.entries(methods)){
  const body=op.requestBody&&op.requestBody.content["application/json"];
  const example=body&&(body.example||(body.examples&&Object.values(body.examples)[0].value));
  const input=body?el("textarea",{rows:7,value:show(example||{})}):null;
  const out=el("pre",{hidden:true});
  const send=el("button",{textContent:"Send",onclick:async()=>{
   const headers={};if(key.value)headers["X-API-Key"]=key.value;if(input)headers["Content-Type"]="application/json";
   out.hidden=false;out.textContent="waiting";
   try{const r=await fetch("."+path,{method:method.toUpperCase(),headers,body:input?input.value:undefined});
    const text=await r.text();let shown=text;try{shown=show(JSON.parse(text))}catch{}
    out.textContent=r.status+" "+r.statusText+"\\n"+shown}catch(e){out.textContent=String(e)}}});
  const answers=el("table",{},...Object.entries(op.responses||{}).map(([code,r])=>
   el("tr",{},el("td",{},el("code",{textContent:code})),el("td",{textContent:r.description||""}))));
  routes.append(el("details",{open:path==="/v1/predict"},
   el("summary",{},el("b",{textContent:method.toUpperCase()}),el("code",{textContent:path}),el("span",{textContent:op.summary||""})),
   el("div",{className:"body"},el("p",{textContent:op.description||""}),answers,...(input?[input]:[]),send,out)))}
}).catch(e=>{about.textContent="openapi.json could not be read: "+e});
</script></body></html>
"""

_ARTICLES: Final = {"aspect": "an", "topic": "a"}
# Script and style of the page are inline; it may call this router only.
_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def add_docs(app: FastAPI, bodies: Callable[[], TaskBodies]) -> None:
    """Add the page and the document of the active task to the app."""

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        headers = {"content-security-policy": _POLICY, "x-content-type-options": "nosniff"}
        return Response(_PAGE, headers=headers, media_type="text/html")

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi() -> Response:
        return json_response(document(app, bodies()))


def document(app: FastAPI, bodies: TaskBodies) -> dict[str, Any]:
    """Return the OpenAPI document of a task, with `POST /v1/predict`, which FastAPI does not serve."""
    api: dict[str, Any] = deepcopy(app.openapi())  # FastAPI caches its own
    task = bodies.task
    given = f", given {_ARTICLES[task.phrase]} {task.phrase}" if task.phrase else ""
    api["info"]["description"] += f" Task {task.name}: label a text{given} as {', '.join(task.labels)}."
    schemas = api.setdefault("components", {}).setdefault("schemas", {})
    models: tuple[type[BaseModel], ...] = (
        bodies.item,
        bodies.batch,
        bodies.feedback,
        bodies.feedback_batch,
        *bodies.answers,
        *BODIES,
    )
    for model in models:
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(schema.pop("$defs", {}))
        schemas[model.__name__] = schema
    body = {"oneOf": [ref(bodies.item), ref(bodies.batch)]}
    answer = {"oneOf": [ref(PredictAnswer), ref(PredictAnswers)]}
    operation = {
        "summary": f"Label a text{given}",
        "description": "One item, or several as instances. A unit_id keeps a user on one arm of an experiment. "
        "X-Timeout-Ms is the time that the client waits, in milliseconds.",
        "operationId": "predict",
        "parameters": [
            {
                "name": "X-Timeout-Ms",
                "in": "header",
                "required": False,
                "schema": {"type": "integer", "minimum": 1, "maximum": 600_000},
            }
        ],
        "requestBody": {"required": True, "content": {"application/json": {"schema": body, "example": bodies.example}}},
        "responses": {
            "200": {
                "description": "The answer, or answers in order",
                "content": {"application/json": {"schema": answer}},
            },
            **{
                str(code): value
                for code, value in documented(400, 401, 403, 413, 415, 422, 429, 431, 500, 503, 504).items()
            },
        },
    }
    if (compared := api["paths"].get(COMPARE_PATH)) is not None:
        compared["post"]["requestBody"]["content"]["application/json"]["example"] = {
            name: value for name, value in bodies.example.items() if name in {"text", task.phrase}
        }
    api["paths"] = {PREDICT_PATH: {"post": operation}, **api["paths"]}
    return api
