import { useRef } from "preact/hooks";
import { isEmbedded, redirectToSignIn, settings, signIn, signInTrouble } from "../session/session";
import { Mark } from "./icons";

function TokenForm() {
	const input = useRef<HTMLInputElement>(null);
	return (
		<form
			class="sign-in-form"
			onSubmit={(event) => {
				event.preventDefault();
				if (input.current && !signIn(input.current.value)) input.current.select();
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

function SignInMethod() {
	const method = settings.value?.sign_in;
	if (isEmbedded) return <p role="status">Waiting for the embedding page to sign you in.</p>;
	if (method?.by === "address") {
		return (
			<button type="button" class="btn primary" onClick={() => redirectToSignIn(method.url)}>
				Sign in
			</button>
		);
	}
	return (
		<>
			<p>
				{method?.by === "code"
					? "Open the address that the server printed when it started: it signs one browser in. Or paste the token that it printed below."
					: "Paste the access token that you were given."}
			</p>
			<TokenForm />
		</>
	);
}

/** The sign-in form. It covers the chat while no user is signed in. */
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
				<SignInMethod />
			</div>
		</main>
	);
}
