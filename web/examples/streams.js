const [watch, publish] = document.forms;
const log = document.querySelector("pre");
const put = { method: "PUT", headers: { "content-type": "application/json" } };
let stream;

watch.addEventListener("submit", (event) => {
  event.preventDefault();
  const names = watch.channels.value.split(" ").map(encodeURIComponent);
  stream?.close();
  stream = new EventSource(`/api/stream?channel=${names.join("&channel=")}`);
  stream.onmessage = ({ data }) => log.append(`${data}\n`);
});

publish.addEventListener("submit", async (event) => {
  event.preventDefault();
  const { topic, ...data } = Object.fromEntries(new FormData(publish));
  const response = await fetch(`/api/topics/${topic}`, { ...put, body: JSON.stringify({ data }) });
  if (!response.ok) log.append(`${(await response.json()).detail}\n`);
});
