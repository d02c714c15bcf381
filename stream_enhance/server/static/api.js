"use strict";
// Renders /openapi.json: one card an operation, with its parameters, body and answers, and a button to try what only reads.

const made = (tag, text, parent, cls) => {
  const element = document.createElement(tag);
  if (text) element.textContent = text;
  if (cls) element.className = cls;
  parent.append(element);
  return element;
};

const shape = (schema, schemas, depth = 0) => {
  if (!schema || depth > 4) return "…";
  if (schema.$ref) return shape(schemas[schema.$ref.split("/").pop()], schemas, depth);
  if (schema.anyOf) return schema.anyOf.map((one) => shape(one, schemas, depth)).join(" | ");
  if (schema.type === "array") return `[${shape(schema.items, schemas, depth + 1)}]`;
  if (schema.type === "object" && schema.properties) {
    const pad = "  ".repeat(depth + 1), needed = schema.required || [];
    const lines = Object.entries(schema.properties).map(([name, inner]) =>
      `${pad}${name}${needed.includes(name) ? "" : "?"}: ${shape(inner, schemas, depth + 1)}`);
    return `{\n${lines.join("\n")}\n${"  ".repeat(depth)}}`;
  }
  const limits = ["pattern", "minimum", "maximum", "maxLength"].filter((key) => key in schema);
  return (schema.type || "any") + limits.map((key) => ` ${key}=${schema[key]}`).join("");
};

const card = (path, method, operation, schemas, parent) => {
  const article = made("article", "", parent, "camera operation");
  const line = made("div", "", article, "line");
  made("h2", `${method.toUpperCase()} ${path}`, line);
  made("p", operation.description || operation.summary, article);
  for (const parameter of operation.parameters || [])
    made("p", `${parameter.name} (${parameter.in}): ${shape(parameter.schema, schemas)}`, article, "parameter");
  const body = operation.requestBody?.content?.["application/json"]?.schema;
  if (body) made("pre", shape(body, schemas), article);
  made("p", `answers ${Object.keys(operation.responses).join(", ")}`, article);
  const streams = ["/mjpeg", "/events"].some((end) => path.endsWith(end));
  if (method !== "get" || path.includes("{") || streams) return;
  const button = made("button", "Try", line);
  button.type = "button";
  const answer = made("pre", "", article);
  answer.setAttribute("aria-live", "polite");
  button.onclick = async () => {
    const got = await fetch(path), text = await got.text();
    answer.textContent = `${got.status}\n${text.slice(0, 4000)}`;
  };
};

fetch("/openapi.json").then((got) => got.json()).then((described) => {
  const place = document.getElementById("operations"), schemas = described.components?.schemas || {};
  for (const [path, methods] of Object.entries(described.paths))
    for (const [method, operation] of Object.entries(methods)) card(path, method, operation, schemas, place);
});
