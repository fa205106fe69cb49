// The script of a site that embeds the chat. A real site has a fixed server address.
const server = new URL(location.href).searchParams.get("server") ?? "http://127.0.0.1:8080";

const panel = document.querySelector("chat-panel");
// Your own server signs a token for the user who is signed in there.
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
