// What a site does that has the chat on its page. The server's address is fixed on a real one.
const server = new URL(location.href).searchParams.get("server") ?? "http://127.0.0.1:8080";

const panel = document.querySelector("chat-panel");
// Your own server knows who is signed in, and signs a token for them.
panel.getToken = async () => (await fetch("/token")).text();

const log = document.getElementById("log");
const write = (text) => {
	const line = document.createElement("li");
	line.textContent = text;
	log.append(line);
};
for (const name of [
	"ready",
	"tokenneeded",
	"conversation",
	"answerstart",
	"answerend",
	"trouble",
]) {
	panel.addEventListener(`chat-${name}`, (event) =>
		write(`${name} ${JSON.stringify(event.detail)}`),
	);
}
document.getElementById("say").addEventListener("click", async () => {
	try {
		await panel.sendMessage("From the host");
	} catch (error) {
		write(`not sent: ${error.message}`);
	}
});

const script = document.createElement("script");
script.src = `${server}/embed.js`;
document.head.append(script);
