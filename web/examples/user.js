const [form] = document.forms;
const log = document.querySelector("pre");
const urlOf = (action) => `/sse/${action}/${encodeURIComponent(form.user.value)}`;
let stream;

form.addEventListener("submit", (event) => {
  event.preventDefault();
  stream?.close();
  stream = new EventSource(urlOf("connect"));
  stream.onmessage = ({ data }) => log.append(`${data}\n`);
});

form.run.addEventListener("click", async () => {
  const { data, detail } = await (await fetch(urlOf("task"), { method: "POST" })).json();
  log.append(`${data ?? detail}\n`);
});

form.disconnect.addEventListener("click", async () => {
  stream?.close();
  const { message } = await (await fetch(urlOf("disconnect"))).json();
  log.append(`${message}\n`);
});
