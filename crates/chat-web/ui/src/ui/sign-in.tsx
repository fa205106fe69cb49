import { useRef } from "preact/hooks";
import { embedded, leaveToSignIn, settings, signIn, signInTrouble } from "../session/session";
import { Mark } from "./icons";

function Paste() {
	const input = useRef<HTMLInputElement>(null);
	return (
		<form
			class="sign-in-form"
			onSubmit={(event) => {
				event.preventDefault();
				if (input.current && !signIn(input.current.value, !embedded)) input.current.select();
			}}
		>
			<label for="token">Token</label>
			<input
				id="token"
				ref={input}
				type="password"
				autocomplete="off"
				spellcheck={false}
				required
			/>
			<button type="submit" class="btn">
				Sign in
			</button>
		</form>
	);
}

function How() {
	const by = settings.value?.sign_in;
	if (embedded) return <p role="status">Waiting for the page around this one to sign you in.</p>;
	if (by?.by === "address") {
		return (
			<button type="button" class="btn primary" onClick={() => leaveToSignIn(by.url)}>
				Sign in
			</button>
		);
	}
	return (
		<>
			<p>
				{by?.by === "code"
					? "Open the address that the server printed when it started: it signs one browser in. Or paste the token that stands below it."
					: "Paste the access token that you were given."}
			</p>
			<Paste />
		</>
	);
}

/** Covers the page while nobody is signed in; what was on it stays behind. */
export function SignIn() {
	return (
		<main class="sign-in">
			<div class="sign-in-card">
				<Mark size={44} />
				<h1>{settings.value?.agent_name}</h1>
				{signInTrouble.value && (
					<p class="sign-in-trouble" role="alert">
						{signInTrouble.value}
					</p>
				)}
				<How />
			</div>
		</main>
	);
}
