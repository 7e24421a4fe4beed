// A Java client for tests: verifies certificates offline, or makes one HTTPS request with a certificate of its own.
//
//     java Peer.java verify ROOTS.pem LISTS.pem CHAIN.pem…
//     java Peer.java get ROOTS.pem LISTS.pem CHAIN.pem KEY.pem URL

import java.io.IOException;
import java.io.InputStream;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyFactory;
import java.security.KeyStore;
import java.security.cert.CertPathValidator;
import java.security.cert.CertStore;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.security.cert.CollectionCertStoreParameters;
import java.security.cert.PKIXBuilderParameters;
import java.security.cert.X509CertSelector;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import javax.net.ssl.CertPathTrustManagerParameters;
import javax.net.ssl.HttpsURLConnection;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

public class Peer {
    private static final char[] NO_PASSWORD = new char[0];

    public static void main(String[] arguments) throws Exception {
        CertificateFactory factory = CertificateFactory.getInstance("X.509");
        PKIXBuilderParameters parameters = parameters(factory, Path.of(arguments[1]), Path.of(arguments[2]));
        if (arguments[0].equals("get")) {
            get(factory, parameters, Path.of(arguments[3]), Path.of(arguments[4]), arguments[5]);
            return;
        }
        for (int i = 3; i < arguments.length; i++) {
            List<Certificate> chain = certificates(factory, Path.of(arguments[i]));
            CertPathValidator.getInstance("PKIX").validate(factory.generateCertPath(chain), parameters);
            System.out.println("good: " + arguments[i]);
        }
    }

    private static List<Certificate> certificates(CertificateFactory factory, Path path) throws Exception {
        try (InputStream stream = Files.newInputStream(path)) {
            return new ArrayList<>(factory.generateCertificates(stream));
        }
    }

    private static PKIXBuilderParameters parameters(CertificateFactory factory, Path roots, Path lists)
            throws Exception {
        KeyStore trusted = KeyStore.getInstance("PKCS12");
        trusted.load(null, NO_PASSWORD);
        for (Certificate root : certificates(factory, roots)) {
            trusted.setCertificateEntry("root" + trusted.size(), root);
        }
        PKIXBuilderParameters parameters = new PKIXBuilderParameters(trusted, new X509CertSelector());
        try (InputStream stream = Files.newInputStream(lists)) {
            CollectionCertStoreParameters all = new CollectionCertStoreParameters(factory.generateCRLs(stream));
            parameters.addCertStore(CertStore.getInstance("Collection", all));
        }
        parameters.setRevocationEnabled(true);
        return parameters;
    }

    private static KeyStore identity(CertificateFactory factory, Path chain, Path key) throws Exception {
        String pem = Files.readString(key).replaceAll("-----[A-Z ]+-----", "").replaceAll("\\s", "");
        PKCS8EncodedKeySpec encoded = new PKCS8EncodedKeySpec(Base64.getDecoder().decode(pem));
        KeyStore store = KeyStore.getInstance("PKCS12");
        store.load(null, NO_PASSWORD);
        Certificate[] certificates = certificates(factory, chain).toArray(new Certificate[0]);
        store.setKeyEntry("own", KeyFactory.getInstance("EC").generatePrivate(encoded), NO_PASSWORD, certificates);
        return store;
    }

    private static void get(
            CertificateFactory factory, PKIXBuilderParameters parameters, Path chain, Path key, String url)
            throws Exception {
        TrustManagerFactory trust = TrustManagerFactory.getInstance("PKIX");
        trust.init(new CertPathTrustManagerParameters(parameters));
        KeyManagerFactory own = KeyManagerFactory.getInstance("PKIX");
        own.init(identity(factory, chain, key), NO_PASSWORD);
        SSLContext context = SSLContext.getInstance("TLSv1.3");
        context.init(own.getKeyManagers(), trust.getTrustManagers(), null);
        HttpsURLConnection connection = (HttpsURLConnection) URI.create(url).toURL().openConnection();
        connection.setSSLSocketFactory(context.getSocketFactory());
        try (InputStream body = connection.getInputStream()) {
            System.out.print(new String(body.readAllBytes()));
        } catch (IOException error) {
            System.out.println(error);
            System.exit(1);
        }
    }
}
