// openapi.json, for people.

const address = new URL(".", location.href).href;
document.getElementById("examples").textContent = [
  `curl -F picture=@street.jpg -o labels.png ${address}predict`,
  `curl -F picture=@street.jpg -o overlay.png '${address}predict?answer=overlay'`,
  `curl -F picture=@street.jpg '${address}predict?answer=json'`,
].join("\n");

const described = await (await fetch("openapi.json")).json();
for (const [path, methods] of Object.entries(described.paths)) {
  for (const [method, route] of Object.entries(methods)) {
    document.getElementById("routes").append(...shown(path, method, route));
  }
}

function* shown(path, method, route) {
  yield made("h2", `${method.toUpperCase()} ${path}`);
  const [first, ...more] = (route.description ?? "").split("\n\n");
  yield made("p", first);
  for (const text of more) yield list(text.split("\n").map((line) => line.replace(/^- /, "")));
  const options = (route.parameters ?? []).map(({ name, schema, description }) => {
    const values = (schema.enum ?? schema.items?.enum ?? []).join(", ");
    return `${name}: ${description} ${values}${schema.default ? `; unless told ${schema.default}` : ""}`;
  });
  if (options.length) yield list(options);
  const statuses = Object.entries(route.responses).map(([status, { description }]) => `${status}: ${description}`);
  if (statuses.length > 1) yield list(statuses);
}

function list(lines) {
  const found = document.createElement("ul");
  found.append(...lines.map((line) => made("li", line)));
  return found;
}

function made(tag, text) {
  return Object.assign(document.createElement(tag), { textContent: text });
}
